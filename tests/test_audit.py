"""The audit tells regimes that can be gamed from those that can't."""

from upaya.declared.audit import AuditParams
from upaya.declared.regimes import Regime
from upaya.measuring.audit import Finding, audit, rungs
from upaya.rewards.specimens import TYPICAL

PARAMS = AuditParams.model_validate({"questions": 5, "default": {"ignorant": 0.3, "near": 0.98}})


def found(components: dict[str, object], **rest: object) -> Finding:
    return audit({"r": Regime.model_validate({"components": components, **rest})}, TYPICAL, PARAMS)[0]


def test_a_reward_for_form_alone_is_paid_to_tags_around_nothing() -> None:
    finding = found({"exact": {"weight": 1}, "format": {"weight": 2}})
    assert any("'form only'" in payer for payer in finding.payers)


def test_a_reward_for_the_right_answer_alone_pays_no_hack() -> None:
    finding = found({"exact": {"weight": 1}}, penalties={"malformed": 1, "wrong": 0.5}, floor=-1)
    assert not finding.payers and max(finding.earned.values()) < 0
    assert finding.rises[0] == 0 and finding.levels == 3


def test_order_blind_overlap_is_caught_by_the_wrong_order() -> None:
    overlap = found({"overlap": {"weight": 0.9}, "exact": {"weight": 0.1}})
    positions = found({"positions": {"weight": 0.9}, "exact": {"weight": 0.1}})
    assert overlap.earned["wrong order"] > 0.89 > positions.earned["wrong order"]


def test_the_reward_falls_with_the_distance_from_right() -> None:
    finding = found({"positions": {"weight": 0.9}, "format": {"weight": 0.1}})
    assert finding.by_distance == sorted(finding.by_distance, reverse=True)
    assert finding.by_distance[0] == 1 > finding.by_distance[-1]


def test_each_rung_says_what_it_pays_a_hack() -> None:
    question = TYPICAL[0].model_copy(update={"choices": [[item, "别的"] for item in TYPICAL[0].answer]})  # type: ignore[union-attr]
    names = ("offered", "shared", "positions")
    regime = Regime.model_validate({"components": {name: {"weight": 1} for name in names}})
    paid = rungs({"r": regime}, [question])
    assert paid["all alternatives"] == {"offered": 1, "shared": 0.5, "positions": 0}
    assert paid["one item repeated"]["offered"] < 0.2

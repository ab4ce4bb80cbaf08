"""Arms over several seeds."""

from pathlib import Path

import pytest

from flows.experiments import everywhere
from flows.seeds import Split, Variant, seeds_in
from upaya.errors import UserError
from upaya.measuring.comparison import Arm
from upaya.measuring.seeds import show_seeds, summarised


def arm(name: str, accuracy: float, switch: int | None) -> Arm:
    switches = [{"step": switch, "to": "lenient → strict"}] if switch else []
    row = {"arm": name, "strict_accuracy": accuracy, "switches": switches}
    return Arm.model_construct(row=row)  # all that is looked at


def test_means_and_ranges_over_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    rows = summarised(
        {11: [arm("strict-only", 0.0, None), arm("lenient-strict", 0.9, 100)],
         12: [arm("strict-only", 0.0, None), arm("lenient-strict", 1.0, None)]}
    )  # fmt: skip
    assert [row["arm"] for row in rows] == ["lenient-strict", "strict-only"]
    assert (rows[0]["mean"], rows[0]["worst"], rows[0]["best"]) == (pytest.approx(0.95), 0.9, 1.0)
    assert rows[0]["first_switch"] == {"11": 100, "12": None} and rows[0]["spread"] == pytest.approx(0.0707, abs=1e-4)
    show_seeds(rows, "test")
    assert "100 to 100, 1 never" in capsys.readouterr().out


def test_seeds_are_named_as_a_range_or_one_by_one() -> None:
    assert seeds_in("11-13") == [11, 12, 13] and seeds_in("1,7") == [1, 7]
    for wrong in ("", "a", "3-1", "1,1"):
        with pytest.raises(UserError, match="--seeds"):
            seeds_in(wrong)


@pytest.fixture
def regimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("regimes.yaml").write_text(
        "regimes:\n  mild: &mild {credit: item, parts: {a: 1}}\n  other: {credit: item}\n"
        "  mixed: {blend: [{regime: *mild}]}\nmeasured:\n  mild: *mild\n"
    )


@pytest.mark.usefixtures("regimes")
def test_what_stands_in_several_places_by_an_alias_is_set_in_all() -> None:
    assert list(everywhere("regimes.yaml:regimes.mild.credit=completion")) == [
        "regimes.yaml:++regimes.mild.credit=completion",
        "regimes.yaml:++regimes.mixed.blend.0.regime.credit=completion",
        "regimes.yaml:++measured.mild.credit=completion",
    ]
    assert list(everywhere("regimes.yaml:regimes.other.credit=completion")) == [
        "regimes.yaml:++regimes.other.credit=completion"
    ]
    assert "regimes.yaml:++regimes.mild.parts.a=0.5" in everywhere("regimes.yaml:measured.mild.parts.a=0.5")


@pytest.mark.usefixtures("regimes")
@pytest.mark.parametrize("wrong", ["credit=1", "regimes.yaml:credit", "none.yaml:a=1", "regimes.yaml:regimes.mld.a=1"])
def test_a_setting_that_names_nothing_is_refused(wrong: str) -> None:
    with pytest.raises(UserError, match=r"expected FILE:KEY=VALUE|has no key"):
        list(everywhere(wrong))


@pytest.mark.usefixtures("regimes")
def test_experiments_of_a_variant_are_told_apart() -> None:
    plain, chosen = Variant(["a"]), Variant(["a"], Split.validation, "whole", ["regimes.yaml:regimes.other.credit=1"])
    assert (plain.experiment(3), chosen.experiment(3)) == ("declared-seed-3", "whole-validation-seed-3")
    assert plain.changes(3) == ["params/curricula.yaml:seed=3", "params/curricula.yaml:evaluation.split=test"]
    assert chosen.changes(3)[1:] == [
        "params/curricula.yaml:evaluation.split=validation",
        "regimes.yaml:++regimes.other.credit=1",
    ]

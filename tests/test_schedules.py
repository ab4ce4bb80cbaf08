"""Several regimes in one stage: what is trained on, and when it changes."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from upaya.declared.regimes import Annealed, Ladder, Mixed, PerGroup, Regime, RegimesFile, Share
from upaya.declared.validation import validated
from upaya.errors import UserError
from upaya.rewards.regimes import load_regimes
from upaya.training.grpo.credit import Earned
from upaya.training.grpo.rewarding import Rewarding

REGIMES = load_regimes(Path(__file__).parents[1] / "params/regimes.yaml").plain
LENIENT, STRICT = REGIMES["lenient"], REGIMES["strict"]
# Four groups of two: alive under both, alive under lenient only, all wrong, all right.
REWARDS = {
    "lenient": torch.tensor([[1.0, 0.2], [0.3, 0.2], [0.1, 0.1], [1.0, 1.0]]),
    "strict": torch.tensor([[1.0, -0.5], [-0.5, -0.5], [-0.5, -0.5], [1.0, 1.0]]),
}
SOLVED = torch.tensor([False, False, False, True])


def earned(rewards_PG: dict[str, Tensor]) -> dict[str, Earned]:
    return {name: Earned.as_a_whole(tensor) for name, tensor in rewards_PG.items()}


def at_work(schedule: Regime | Annealed | Mixed | Ladder | PerGroup) -> Rewarding:
    return Rewarding(schedule, "strict" if isinstance(schedule, Regime) else "s", REGIMES)


def test_a_plain_regime_is_trained_on_as_it_is() -> None:
    found, weights = at_work(STRICT).trained(0, earned(REWARDS), SOLVED)
    assert torch.equal(found.rewards_PG, REWARDS["strict"]) and weights == {"strict": 1.0}


def test_annealing_goes_from_one_end_to_the_other_and_says_when_it_is_over() -> None:
    rewarding = at_work(Annealed(type="annealed", start=LENIENT, end=STRICT, steps=4))
    shares, events = [], []
    for step in range(6):
        found, weights = rewarding.trained(step, earned(REWARDS), SOLVED)
        shares.append(weights["strict"])
        events.append(rewarding.event)
        expected = (1 - shares[-1]) * REWARDS["lenient"] + shares[-1] * REWARDS["strict"]
        assert torch.allclose(found.rewards_PG, expected)
    assert shares == [0, 0.25, 0.5, 0.75, 1, 1]
    assert [event is not None for event in events] == [False] * 4 + [True, False]


def test_a_blend_is_the_weighted_mean() -> None:
    blend = [Share(regime=LENIENT, weight=3), Share(regime=STRICT, weight=1)]
    found, weights = at_work(Mixed(type="mixed", blend=blend)).trained(7, earned(REWARDS), SOLVED)
    assert weights == {"lenient": 0.75, "strict": 0.25}
    assert torch.allclose(found.rewards_PG, 0.75 * REWARDS["lenient"] + 0.25 * REWARDS["strict"])


def test_each_group_gets_the_first_regime_under_which_it_is_live() -> None:
    found, weights = at_work(PerGroup(type="per_group", prefer=[STRICT, LENIENT])).trained(0, earned(REWARDS), SOLVED)
    assert torch.equal(found.rewards_PG[0], REWARDS["strict"][0])
    assert torch.equal(found.rewards_PG[1], REWARDS["lenient"][1])
    assert weights == {"strict": 0.25, "lenient": 0.75}


def share_of_live(live: int, of: int = 10) -> Tensor:
    """Rewards of groups of two of which so many are live."""
    return torch.tensor([[1.0, 0.0]] * live + [[0.0, 0.0]] * (of - live))


def climbed(ladder: Ladder, lives: list[tuple[int, int]]) -> list[str]:
    """The regime trained on at each step, given live groups of ten under lenient and strict."""
    rewarding = at_work(ladder)
    solved = torch.zeros(10, dtype=torch.bool)
    used = []
    for step, (lenient, strict) in enumerate(lives):
        _, weights = rewarding.trained(
            step, earned({"lenient": share_of_live(lenient), "strict": share_of_live(strict)}), solved
        )
        used.append(max(weights, key=lambda name: weights[name]))
        state = json.loads(json.dumps(rewarding.state_dict()))  # as a checkpoint keeps it
        rewarding = at_work(ladder)
        rewarding.load_state_dict(state)
    return used


LADDER = Ladder(type="ladder", rungs=[LENIENT, STRICT], climb_at=0.5, fall_at=0.2, window=2)


def test_a_ladder_climbs_when_the_next_rung_has_enough_live_groups() -> None:
    assert climbed(LADDER, [(9, 0), (9, 5), (9, 5), (9, 5)]) == ["lenient", "lenient", "lenient", "strict"]


def test_a_ladder_falls_back_when_its_rung_dies_and_stays_in_between() -> None:
    lives = [(9, 9)] * 2 + [(9, 3)] * 4 + [(9, 0)] * 2 + [(9, 3)] * 3
    assert climbed(LADDER, lives) == ["lenient"] * 2 + ["strict"] * 5 + ["lenient"] * 4


def test_solved_groups_are_no_reason_to_fall_back() -> None:
    rewarding = at_work(LADDER)
    rewarding.rung = 1
    solved = torch.tensor([True] * 9 + [False])
    live = torch.tensor([[1.0, 1.0]] * 9 + [[1.0, 0.0]])
    for step in range(4):
        rewarding.trained(step, earned({"lenient": live, "strict": live}), solved)
    assert rewarding.rung == 1


def test_a_checkpoint_of_other_regimes_is_refused() -> None:
    with pytest.raises(UserError, match="regimes"):
        at_work(LADDER).load_state_dict({"rung": 0, "live": {"kind": []}})


STRICT_FILE = {"components": {"exact": {"weight": 1}}, "penalties": {"malformed": 1, "wrong": 0.5}, "floor": -1}


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"type": "anealed"}, "key 'regimes.s.type': unknown type 'anealed'; did you mean 'annealed'"),
        ({"type": "annealed", "start": STRICT_FILE, "end": STRICT_FILE}, "key 'regimes.s.steps' is missing"),
        ({"type": "annealed", "start": STRICT_FILE, "end": STRICT_FILE, "step": 3}, "did you mean 'steps'"),
        ({"type": "mixed", "blend": [{"regime": STRICT_FILE, "weight": -1}] * 2}, "regimes.s.blend.0.weight"),
        (
            {"type": "ladder", "rungs": [STRICT_FILE] * 2, "climb_at": 0.1, "fall_at": 0.2},
            "fall_at must be below climb_at",
        ),
        (
            {"type": "per_group", "prefer": [STRICT_FILE, {"components": {"exact": {"weight": 2}}}]},
            r"s: a schedule is made of regimes that stand under `measured`; write `lenient: &lenient`",
        ),
    ],
)
def test_a_wrong_schedule_names_key_and_cure(schedule: object, message: str) -> None:
    content = {"regimes": {"strict": STRICT_FILE, "s": schedule}, "measured": {"strict": STRICT_FILE}}
    with pytest.raises(UserError, match=message):
        validated(RegimesFile, content, "params/regimes.yaml")


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ({"strikt": STRICT_FILE}, "measured: 'strikt' is none of the regimes; did you mean 'strict'"),
        ({"strict": {**STRICT_FILE, "floor": -2}}, "measured.strict differs from regimes.strict: write"),
        ({}, "measured"),
    ],
)
def test_what_is_measured_is_declared(measured: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        validated(RegimesFile, {"regimes": {"strict": STRICT_FILE}, "measured": measured}, "params/regimes.yaml")

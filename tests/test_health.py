"""What watches and steers: alarms of a curriculum's health, the draw of questions, learning rates, intervals."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from upaya.declared.grpo import Alarm, AllOf, Plateau, Pools, Steps, SuccessRate, Uniform
from upaya.declared.model import RateSchedule
from upaya.declared.sampling import SamplingChange, SamplingParams
from upaya.declared.warmup import UntilScore
from upaya.measuring.statistics import interval
from upaya.rewards.scoring import Scores
from upaya.training.completions.order import prompt_order
from upaya.training.grpo.alarm import Health
from upaya.training.grpo.draw import Draw
from upaya.training.grpo.switching import RunningStatistics, fired, reach

ALARM = Alarm(health_window=10)


def sounded(success: list[float], skills: list[dict[str, float]] | None = None) -> list[str]:
    """Which alarms sound in a stage, taken through a checkpoint at every step."""
    health, statistics, found = Health(ALARM), RunningStatistics(reach(None, ALARM)), []
    for step, value in enumerate(success):
        statistics.update({"success": value})
        found += [event["of"] for event in health.look(skills[step] if skills else {"any": value}, statistics)]
        state = json.loads(json.dumps(health.state_dict()))
        health = Health(ALARM)
        health.load_state_dict(state)
    return found


def test_a_skill_that_stays_behind_sounds_once() -> None:
    frozen = [{"三断": 0.0, "五类": 0.95, "三性": 0.9}] * 40
    assert sounded([0.5 + step / 100 for step in range(40)], frozen) == ["skill/三断"]
    assert sounded([0.5 + step / 100 for step in range(40)], [{"三断": 0.0, "五类": 0.3, "三性": 0.2}] * 40) == []


def test_a_fall_after_the_best_is_a_regression_and_standing_still_low_a_stagnation() -> None:
    assert sounded([0.8] * 10 + [0.2] * 10) == ["regression"]
    assert sounded([0.4] * 40) == ["stagnation"]
    assert sounded([0.95] * 40) == []
    assert sounded([step / 100 for step in range(60)]) == []


@pytest.mark.parametrize(
    ("trained", "strict", "sounds"),
    [(0.65, 0.65, True), (0.65, 0.64, True), (0.9, 0.3, False), (0.95, 0.95, False), (0.5, 0.45, False)],
)
def test_as_many_dead_groups_as_under_strict_mean_no_slope(trained: float, strict: float, sounds: bool) -> None:
    health, found = Health(ALARM), []
    for _ in range(40):
        found += [event["of"] for event in health.slope(trained, strict)]
        state = json.loads(json.dumps(health.state_dict()))
        health = Health(ALARM)
        health.load_state_dict(state)
    assert found == ["slope"] * sounds


def test_a_window_of_any_length_fires() -> None:
    until = AllOf(
        type="all", of=[SuccessRate(type="success_rate", threshold=0.5, window=1500), Steps(type="steps", steps=1)]
    )
    statistics = RunningStatistics(reach(until, Alarm()))
    for _ in range(1500):
        assert fired(until, statistics) is None
        statistics.update({"success": 1.0})
    assert fired(until, statistics) is not None
    assert reach(Plateau(type="plateau", window=3000), Alarm()) == 6000


def scores(exact: list[list[bool]], rewards: list[list[float]]) -> Scores:
    exact_PG = torch.tensor(exact)
    return Scores({"r": torch.tensor(rewards)}, {}, exact_PG, exact_PG, exact_PG[..., None].double())


def test_uniform_is_the_order_of_the_permutations() -> None:
    draw = Draw(Uniform(type="uniform"), 10, seed=3, place=8)
    assert [draw.next(4), draw.next(4)] == [prompt_order(10, 2, 4, seed=3), prompt_order(10, 3, 4, seed=3)]


@given(st.integers(0, 1000), st.integers(0, 20))
def test_pools_pass_over_what_is_solved_and_go_on_from_a_checkpoint(seed: int, cut: int) -> None:
    def drawn(cut: int) -> list[list[int]]:
        draw, steps = Draw(Pools(type="pools", solved=0.1, hopeless=0.5), 8, seed, 0), []
        for step in range(20):
            if step == cut:
                state = json.loads(json.dumps(draw.state_dict()))
                draw = Draw(Pools(type="pools", solved=0.1, hopeless=0.5), 8, seed, 0)
                draw.load_state_dict(state)
            steps.append(draw.next(4))
            right = [[question < 4] * 2 for question in steps[-1]]  # the first half is solved, the others are live
            draw.saw(steps[-1], scores(right, [[1.0, float(question < 4)] for question in steps[-1]]))
        return steps

    steps = drawn(-1)
    assert steps == drawn(cut)
    later = [question for step in steps[5:] for question in step]
    assert sum(question < 4 for question in later) < len(later) / 3


def test_pools_in_which_everything_is_solved_still_give_questions() -> None:
    draw = Draw(Pools(type="pools", solved=0, hopeless=0), 4, 1, 0)
    for _ in range(5):
        chosen = draw.next(2)
        draw.saw(chosen, scores([[True] * 2] * 2, [[1.0, 1.0]] * 2))
    assert len(draw.pool) == 4


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ({}, [1, 1, 1, 1]),
        ({"type": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"type": "linear", "to": 0.5}, [1, 0.875, 0.75, 0.625]),
        ({"type": "cosine"}, [1, 0.853553, 0.5, 0.146447]),
        ({"warm_up": 3}, [0.25, 0.5, 0.75, 1]),
    ],
)
def test_the_learning_rate_moves_as_declared(schedule: dict[str, object], rates: list[float]) -> None:
    declared = RateSchedule.model_validate(schedule)
    assert [declared.at(step, 4) for step in range(4)] == pytest.approx(rates, abs=1e-6)


def test_a_policy_changes_what_it_names_of_the_sampling() -> None:
    common = SamplingParams(temperature=1.0, min_p=0.1)
    assert common.changed(SamplingChange(temperature=1.3)) == SamplingParams(temperature=1.3, min_p=0.1)
    assert common.changed(None) == common


def test_a_warm_up_waits_for_its_worst_skill() -> None:
    until = UntilScore(regime="lenient", score=0.5, worst=0.1, every=1, questions=1, samples=1)
    assert not until.is_reached(0.6, {"a": 0.9, "b": 0.05}) and until.is_reached(0.6, {"a": 0.9, "b": 0.1})
    assert not until.is_reached(0.4, {"a": 0.9, "b": 0.9})


def test_an_interval_says_something_at_the_boundary() -> None:
    low, high = interval([0.0] * 384, 1000, 1)
    assert low == 0 and high == pytest.approx(0.00990, abs=1e-4)  # z² / (n + z²)
    low, high = interval([1.0] * 10, 1000, 1)
    assert high == 1 and low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)


@given(st.integers(1, 400), st.data())
def test_wilsons_interval_holds_the_share(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    low, high = interval([1.0] * right + [0.0] * (n - right), 100, 1)
    assert 0 <= low <= right / n <= high <= 1

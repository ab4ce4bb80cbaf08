import json
from statistics import stdev

import pytest
import torch

from upaya.declared.grpo import Alarm, AllOf, AnyOf, LiveShare, Plateau, Steps, SuccessRate, regimes_in
from upaya.measuring.statistics import pass_at_k
from upaya.rewards.groups import fates, group_centred, is_live, shares
from upaya.training.completions.measures import rewarded_wrong, under
from upaya.training.completions.order import prompt_order
from upaya.training.grpo.advantages import group_advantages
from upaya.training.grpo.alarm import collapses
from upaya.training.grpo.switching import RunningStatistics, fired


def test_advantages_of_a_group_add_up_to_nothing() -> None:
    rewards = torch.tensor([[1.0, 0, 0, 0], [0.3, 0.3, 0.3, 0.3]])
    advantages = group_centred(rewards)
    assert advantages.sum(1).abs().max() < 1e-6
    assert advantages[0].tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])


def test_one_success_among_eight_divided_by_the_groups_deviation() -> None:
    advantages = group_advantages(torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, 0]]), "group")[0].tolist()
    assert advantages == pytest.approx([2.4742] + [-0.3535] * 7, abs=5e-5)


def test_division_by_the_batchs_deviation_keeps_the_proportions_between_groups() -> None:
    rewards = torch.tensor([[1.0, 0, 0, 0], [0.6, 0.4, 0.4, 0.6], [1.0, 1, 1, 1]])
    scaled = group_advantages(rewards, "batch")
    ratio = scaled / group_centred(rewards)
    assert torch.allclose(ratio[:2], torch.full((2, 4), 1 / (stdev(rewards.flatten().tolist()) + 1e-4)))
    assert (scaled[2] == 0).all()


def test_dead_is_exact_equality() -> None:
    close = torch.tensor([[0.1 + 0.2, 0.3]], dtype=torch.float64)
    assert is_live(close).item()  # a standard deviation would round this difference away
    assert not is_live(torch.tensor([[0.3, 0.3]])).item()


def test_fates_tell_all_right_from_all_wrong() -> None:
    rewards = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    exact = rewards > 0
    assert fates(rewards, exact) == ["dead_all_right", "dead_all_wrong", "live"]
    assert sum(shares(rewards, exact).values()) == pytest.approx(1)


def test_prompts_come_once_per_epoch_whatever_the_step_they_start_from() -> None:
    order = [prompt_order(10, step, 4, seed=3) for step in range(5)]
    assert sorted([place for step in order for place in step][:10]) == list(range(10))
    assert prompt_order(10, 3, 4, seed=3) == order[3]
    assert prompt_order(10, 3, 4, seed=4) != order[3]


def statistics_of(**series: list[float]) -> RunningStatistics:
    """Running statistics after steps with these values, taken through a checkpoint at every step."""
    found = RunningStatistics(100)
    for values in zip(*series.values(), strict=True):
        found.update(dict(zip((name.replace("__", "/") for name in series), values, strict=True)))
        resumed = RunningStatistics(100)
        resumed.load_state_dict(json.loads(json.dumps(found.state_dict())))
        found = resumed
    return found


def test_success_rate_waits_for_its_window() -> None:
    condition = SuccessRate(type="success_rate", threshold=0.5, window=2)
    assert fired(condition, statistics_of(success=[1.0])) is None
    assert fired(condition, statistics_of(success=[1.0, 0.2])).value == pytest.approx(0.6)
    assert fired(condition, statistics_of(success=[1.0, 0.2, 0.2])) is None


def test_live_share_looks_at_the_regime_that_it_names() -> None:
    condition = LiveShare(type="live_share", regime="strict", threshold=0.5, window=2)
    assert fired(condition, statistics_of(live__strict=[0.1, 0.2], live__lenient=[1.0, 1.0])) is None
    found = fired(condition, statistics_of(live__strict=[0.4, 0.8], live__lenient=[0.0, 0.0]))
    assert found and "under strict" in found.condition and found.value == pytest.approx(0.6)


def test_plateau_fires_when_the_reward_stops_rising() -> None:
    condition = Plateau(type="plateau", gain=0.05, window=2)
    assert fired(condition, statistics_of(reward=[0.1, 0.2, 0.3])) is None  # no two windows yet
    assert fired(condition, statistics_of(reward=[0.1, 0.2, 0.3, 0.4])) is None
    assert fired(condition, statistics_of(reward=[0.1, 0.2, 0.3, 0.4, 0.4, 0.31])).value == pytest.approx(0.005)


def test_any_fires_with_the_first_that_holds_and_all_with_the_last() -> None:
    parts = [SuccessRate(type="success_rate", threshold=0.5, window=1), Steps(type="steps", steps=2)]
    assert fired(AnyOf(type="any", of=parts), statistics_of(success=[0.0, 0.0])).condition == "steps ≥ 2"
    assert fired(AllOf(type="all", of=parts), statistics_of(success=[0.0, 0.0])) is None
    assert " and " in fired(AllOf(type="all", of=parts), statistics_of(success=[0.0, 1.0])).condition


def test_the_regimes_of_nested_conditions_are_found() -> None:
    inner = AllOf(type="all", of=[LiveShare(type="live_share", regime="r", threshold=0.1)])
    assert regimes_in(AnyOf(type="any", of=[Steps(type="steps", steps=1), inner])) == ["r"]


def test_rewarded_wrong_is_the_share_of_positive_advantage_that_errors_get() -> None:
    exact = torch.tensor([[True, False, False, False], [False, False, False, False]])
    lenient = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]])
    assert rewarded_wrong(lenient, exact) == pytest.approx(0.375 / (0.75 + 0.375))
    assert rewarded_wrong(exact.double(), exact) == 0
    assert rewarded_wrong(torch.zeros(2, 4), exact) is None
    assert under(lenient, exact)["live"] == 1


@pytest.mark.parametrize(("n", "c", "k", "value"), [(8, 0, 8, 0.0), (8, 1, 8, 1.0), (4, 1, 1, 0.25), (4, 2, 2, 5 / 6)])
def test_pass_at_k_counts_subsets(n: int, c: int, k: int, value: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(value)


def collapse(series: list[float], alarm: Alarm) -> list[int]:
    """The steps at which the alarm sounds for entropy."""
    found, statistics = [], RunningStatistics(100)
    for step, value in enumerate(series, start=1):
        statistics.update({"entropy": value, "completion_length": 20.0})
        found += [step for event in collapses(alarm, statistics) if event["of"] == "entropy"]
    return found


def test_a_form_that_is_lost_sounds_and_says_what_keeps_it() -> None:
    alarm, statistics, events = Alarm(window=4), RunningStatistics(100), []
    for format_rate in [0.95] * 8 + [0.02] * 4:
        statistics.update({"entropy": 1.0, "completion_length": 20.0, "format_rate": format_rate})
        events += collapses(alarm, statistics)
    assert [event["of"] for event in events] == ["format_rate"] and "`format`" in events[0]["condition"]


def test_the_alarm_sounds_once_at_a_cliff_and_not_on_a_slope() -> None:
    alarm = Alarm(window=4, falls_to=0.5)
    assert collapse([1.0] * 10 + [0.1] * 20, alarm) == [13]
    assert collapse([0.95**step for step in range(60)], alarm) == []
    assert collapse([1.0] * 10 + [0.1] * 20 + [0.01] * 8, alarm) == [13, 33]

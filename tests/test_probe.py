"""What the probe predicts and recommends, on distributions whose truth is known."""

import pytest
import torch

from upaya.declared.probe import Probe
from upaya.measuring.probe import observed_dead, predicted_dead, recommend
from upaya.records.probes import SUCCESS, Dead, Estimate, Reach

PARAMS = Probe(questions=8, samples=32, group_sizes=[8], enough_live=0.25, top=50, out_of_reach=0.1)


@pytest.mark.parametrize("p", [0.02, 0.2, 0.9])
@pytest.mark.parametrize("size", [4, 8])
def test_the_prediction_is_that_of_the_formula_and_of_what_is_seen(p: float, size: int) -> None:
    torch.manual_seed(0)
    rewards = (torch.rand(4000, 32) < p).double()
    formula = (1 - p) ** size + p**size
    assert sum(predicted_dead(rewards, size)) / 4000 == pytest.approx(formula, abs=0.015)
    fresh = (torch.rand(4000, 32) < p).double()
    assert sum(observed_dead(fresh, size)) / 4000 == pytest.approx(formula, abs=0.015)


def test_three_levels_die_only_when_all_are_equal() -> None:
    rewards = torch.tensor([[1.0, -0.5, -0.5, -1.0], [-0.5, -0.5, -0.5, -0.5]])
    assert predicted_dead(rewards, 2) == [pytest.approx(1 / 6), 1.0]
    assert observed_dead(rewards, 2) == [0.0, 1.0]


def estimate(mean: float) -> Estimate:
    return Estimate(mean=mean, low=mean, high=mean)


def choice(strict: float, lenient: float, missed: float) -> str:
    """What is recommended at these shares of live groups and of answer tokens out of reach."""
    dead = {
        name: {8: Dead(predicted=estimate(1 - live), observed=estimate(1 - live))}
        for name, live in {SUCCESS: strict, "strict": 1.0, "lenient": lenient}.items()
    }
    reach = Reach(
        log_probability=-1,
        out_of_reach=estimate(missed),
        answer_log_probability=-1,
        answer_out_of_reach=estimate(missed),
    )
    return recommend(dead, reach, 8, PARAMS).choice


def test_each_finding_leads_to_its_own_recommendation() -> None:
    assert choice(strict=0.5, lenient=0.9, missed=0.0) == "start strict"
    assert choice(strict=0.02, lenient=0.9, missed=0.0) == "start lenient"
    assert choice(strict=0.0, lenient=0.1, missed=0.0) == "warm up longer"
    assert choice(strict=0.0, lenient=0.9, missed=0.4) == "more pre-training"

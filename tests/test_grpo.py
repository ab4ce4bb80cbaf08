import pytest
import torch

from upaya.evaluation import pass_at_k
from upaya.grpo.advantages import fates, group_centred, is_live, length_mask, shares
from upaya.grpo.loop import prompt_order
from upaya.grpo.loss import token_level_loss
from upaya.grpo.switching import AnyOf, RunningStatistics, Steps, SuccessRate, fired


def test_advantages_of_a_group_add_up_to_nothing() -> None:
    rewards = torch.tensor([[1.0, 0, 0, 0], [0.3, 0.3, 0.3, 0.3]])
    advantages = group_centred(rewards)
    assert advantages.sum(1).abs().max() < 1e-6
    assert advantages[0].tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])


def test_dead_is_exact_equality() -> None:
    close = torch.tensor([[0.1 + 0.2, 0.3]], dtype=torch.float64)
    assert is_live(close).item()  # a standard deviation would round this difference away
    assert not is_live(torch.tensor([[0.3, 0.3]])).item()


def test_fates_tell_all_right_from_all_wrong() -> None:
    rewards = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    exact = rewards > 0
    assert fates(rewards, exact) == ["dead_all_right", "dead_all_wrong", "live"]
    assert sum(shares(rewards, exact).values()) == pytest.approx(1)


def test_the_gradient_is_that_of_reinforce_with_the_mean_as_baseline() -> None:
    logprobs = torch.randn(2, 3, 4, requires_grad=True)
    advantages = group_centred(torch.rand(2, 3))
    lengths = torch.tensor([[4, 2, 3], [1, 4, 4]])
    mask = length_mask(lengths, 4)
    token_level_loss(logprobs, logprobs.detach(), advantages, mask, int(lengths.sum())).backward()
    expected = -(advantages[..., None] * mask) / lengths.sum()
    assert torch.allclose(logprobs.grad, expected)


def test_prompts_come_once_per_epoch_whatever_the_step_they_start_from() -> None:
    order = [prompt_order(10, step, 4, seed=3) for step in range(5)]
    assert sorted([place for step in order for place in step][:10]) == list(range(10))
    assert prompt_order(10, 3, 4, seed=3) == order[3]
    assert prompt_order(10, 3, 4, seed=4) != order[3]


def test_success_rate_waits_for_its_window_and_survives_a_checkpoint() -> None:
    condition = SuccessRate(type="success_rate", threshold=0.5, window=2)
    statistics = RunningStatistics()
    statistics.update(1.0)
    assert fired(condition, statistics) is None
    resumed = RunningStatistics()
    resumed.load_state_dict(statistics.state_dict())
    resumed.update(0.2)
    found = fired(condition, resumed)
    assert found and found.value == pytest.approx(0.6)


def test_any_fires_with_the_first_that_holds() -> None:
    statistics = RunningStatistics()
    statistics.update(0.0)
    condition = AnyOf(type="any", of=[SuccessRate(type="success_rate", threshold=0.5), Steps(type="steps", steps=1)])
    found = fired(condition, statistics)
    assert found and found.condition == "steps ≥ 1"


@pytest.mark.parametrize(("n", "c", "k", "value"), [(8, 0, 8, 0.0), (8, 1, 8, 1.0), (4, 1, 1, 0.25), (4, 2, 2, 5 / 6)])
def test_pass_at_k_counts_subsets(n: int, c: int, k: int, value: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(value)

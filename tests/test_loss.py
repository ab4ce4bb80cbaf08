"""The losses against their papers' formulas, written out sequence by sequence and token by token."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from upaya.declared.grpo import Loss, LossType
from upaya.training.completions.packing import length_mask
from upaya.training.grpo.loss import completion_weights, policy_loss

LENGTHS = torch.tensor([[4, 2, 3], [1, 4, 4]])
MAX_NEW_TOKENS = 6


def by_the_paper(loss: Loss, new: Tensor, old: Tensor, advantages: Tensor, reference: Tensor) -> float:
    """The loss of completions of lengths LENGTHS in plain Python."""
    low, high = 1 - loss.epsilon_low, 1 + loss.epsilon_high
    sequences = []
    for p in range(2):
        for g in range(3):
            length, advantage = int(LENGTHS[p, g]), advantages[p, g].item()
            ratios = [math.exp(new[p, g, t].item() - old[p, g, t].item()) for t in range(length)]
            if loss.type == "gspo":
                ratios = [math.prod(ratios) ** (1 / length)] * length
            terms = []
            for t, ratio in enumerate(ratios):
                if loss.type == "cispo":
                    gained = min(ratio, high) * advantage * new[p, g, t].item()
                else:
                    gained = min(ratio * advantage, min(max(ratio, low), high) * advantage)
                away = reference[p, g, t].item() - new[p, g, t].item()
                terms.append(-gained + loss.kl * (math.exp(away) - away - 1))
            sequences.append(terms)
    tokens = sum(map(len, sequences))
    match loss.type:
        case "dapo" | "bnpo" | "cispo":
            return sum(map(sum, sequences)) / tokens
        case "grpo" | "gspo":
            return sum(sum(terms) / len(terms) for terms in sequences) / len(sequences)
        case "dr_grpo":
            return sum(map(sum, sequences)) / (len(sequences) * MAX_NEW_TOKENS)


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(new, old, advantages, reference) for 2 groups of 3; what stands beyond a completion's length is wild."""
    generator = torch.Generator().manual_seed(seed)
    new, old, reference = torch.randn(3, 2, 3, 4, generator=generator, dtype=torch.float64) - 2
    old = torch.where(length_mask(LENGTHS, 4), old, torch.full_like(old, 1e4))
    return new.requires_grad_(), old, torch.randn(2, 3, generator=generator, dtype=torch.float64), reference


@pytest.mark.parametrize("kind", get_args(LossType))
@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_the_loss_is_its_papers_formula(kind: LossType, kl: float) -> None:
    loss = Loss(type=kind, epsilon_low=0.1, epsilon_high=0.3, kl=kl)
    new, old, advantages, reference = drawn(1)
    weights = completion_weights(LENGTHS, LENGTHS, loss, MAX_NEW_TOKENS)
    value, metrics = policy_loss(new, old, advantages[..., None], length_mask(LENGTHS, 4), weights, loss, reference)
    assert value.item() == pytest.approx(by_the_paper(loss, new, old, advantages, reference), rel=1e-12)
    assert metrics.clipped > 0 and (metrics.kl > 0) == (kl > 0)
    value.backward()
    assert new.grad is not None and new.grad.isfinite().all()
    assert (new.grad[~length_mask(LENGTHS, 4)] == 0).all()


@pytest.mark.parametrize("kind", get_args(LossType))
def test_the_losses_of_micro_batches_add_up_to_the_batchs(kind: LossType) -> None:
    loss = Loss(type=kind)
    new, old, advantages, _ = drawn(2)
    weights, mask = completion_weights(LENGTHS, LENGTHS, loss, MAX_NEW_TOKENS), length_mask(LENGTHS, 4)
    whole, _ = policy_loss(new, old, advantages[..., None], mask, weights, loss)
    parts = [
        policy_loss(new[[p]], old[[p]], advantages[[p], :, None], mask[[p]], weights[[p]], loss)[0].item()
        for p in range(2)
    ]
    assert sum(parts) == pytest.approx(whole.item(), rel=1e-12)


@pytest.mark.parametrize("kind", ["dapo", "cispo"])
def test_on_policy_the_gradient_is_that_of_reinforce(kind: LossType) -> None:
    loss = Loss(type=kind)
    new, _, advantages, _ = drawn(3)
    mask = length_mask(LENGTHS, 4)
    policy_loss(new, new.detach(), advantages[..., None], mask, completion_weights(LENGTHS, LENGTHS, loss, 6), loss)[
        0
    ].backward()
    assert new.grad is not None
    assert torch.allclose(new.grad, -(advantages[..., None] * mask) / LENGTHS.sum())


def test_a_clipped_token_keeps_its_gradient_under_cispo_only() -> None:
    def gradient(kind: LossType) -> float:
        new = torch.tensor([[[0.0]]], requires_grad=True)
        one = torch.tensor([[1]])
        loss = Loss(type=kind)
        weights = completion_weights(one, one, loss, 1)
        policy_loss(new, torch.tensor([[[-1.0]]]), torch.tensor([[[2.0]]]), one[..., None] > 0, weights, loss)[
            0
        ].backward()
        assert new.grad is not None
        return new.grad.item()

    assert gradient("dapo") == 0
    assert gradient("cispo") == pytest.approx(-1.2 * 2.0)


def test_clip_higher_leaves_more_room_above_than_below() -> None:
    loss = Loss(epsilon_low=0.2, epsilon_high=0.28)
    one = torch.tensor([[1, 1]])
    ratios = torch.tensor([[[1.27], [0.73]]])
    _, metrics = policy_loss(
        ratios.log(), torch.zeros(1, 2, 1), torch.tensor([[[1.0], [-1.0]]]), one[..., None] > 0,
        completion_weights(one, one, loss, 1), loss,
    )  # fmt: skip
    assert metrics.clipped == 1  # the second: its ratio fell below 0.8


def test_masked_completions_weigh_nothing_but_stay_in_the_mean_over_completions() -> None:
    lengths = torch.tensor([[4, 0]])
    assert completion_weights(lengths, lengths, Loss(type="dapo"), 6)[0, 0] == 1 / 4
    assert completion_weights(lengths, lengths, Loss(type="grpo"), 6)[0, 0] == 1 / 8

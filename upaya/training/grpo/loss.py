"""The policy-gradient losses: −ratio · advantage, token by token, and how tokens are weighed into one number.

A loss is Σ over tokens of weight · token loss. The weights are settled once for the whole generation batch, so that the
losses of its micro-batches add up to the batch's, however it is cut.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from upaya.declared.grpo import Loss


class LossMetrics(NamedTuple):
    """Sums over a micro-batch's tokens: those whose ratio was clipped, their k3 divergence from the reference, and the
    entropy bonus, weighed as in the loss that it was taken from."""

    clipped: float
    kl: float
    bonus: float


def completion_weights(lengths: Tensor, counted: Tensor, loss: Loss, max_new_tokens: int) -> Tensor:
    """What each token of a completion weighs in the loss: […] → float64 […].

    Args:
        lengths: tokens of each completion; 0 for one that is masked out.
        counted: tokens of all completions that the loss is averaged over.
        max_new_tokens: the constant that `dr_grpo` divides by.
    """
    lengths = lengths.double()
    match loss.type:
        case "dapo" | "bnpo" | "cispo":
            return torch.ones_like(lengths) / counted.sum().clamp(min=1)
        case "grpo" | "gspo":
            return 1 / (counted.numel() * lengths.clamp(min=1))
        case "dr_grpo":
            return torch.full_like(lengths, 1 / (counted.numel() * max_new_tokens))


def policy_loss(
    logprobs_RT: Tensor,
    old_logprobs_RT: Tensor,
    advantages_RT: Tensor,
    mask_RT: Tensor,
    weights_R: Tensor,
    loss: Loss,
    reference_logprobs_RT: Tensor | None = None,
    importance_RT: Tensor | None = None,
    entropy_bonus_RT: Tensor | None = None,
) -> tuple[Tensor, LossMetrics]:
    """Σ weight · (−importance · surrogate + kl · k3 − entropy bonus) over the tokens: (a differentiable scalar,
    metrics).

    R completions of up to T tokens; R may stand for several dimensions.

    The divergence is Schulman's k3 estimator, e^d − d − 1 with d = log π_ref − log π (DeepSeekMath, eq. 4).

    Args:
        logprobs_RT: log-probabilities under the policy, differentiable.
        old_logprobs_RT: log-probabilities under the policy that sampled; `logprobs_RT.detach()` where it is the same:
            the ratio is then 1 in value and has the gradient of log π.
        advantages_RT: of each token; [R, 1] where all tokens of a completion have the same.
        mask_RT: True at the tokens that count; what stands elsewhere is without effect.
        weights_R: from `completion_weights`.
        reference_logprobs_RT: log-probabilities under the reference; needed where loss.kl is above 0.
        importance_RT: importance weights, without a gradient; None for 1.
        entropy_bonus_RT: each token's entropy times what it is worth, differentiable; None for no bonus.
    """
    moved = (logprobs_RT - old_logprobs_RT).masked_fill(~mask_RT, 0.0)
    if loss.type == "gspo":
        moved = (moved.sum(-1, keepdim=True) / mask_RT.sum(-1, keepdim=True).clamp(min=1)).expand_as(moved)
    ratio = moved.exp()
    if loss.type == "cispo":
        limited = ratio.clamp(max=1 + loss.epsilon_high)
        surrogate = limited.detach() * advantages_RT * logprobs_RT
        clipped = ratio != limited
    else:
        plain = ratio * advantages_RT
        limited = ratio.clamp(1 - loss.epsilon_low, 1 + loss.epsilon_high) * advantages_RT
        surrogate = torch.minimum(plain, limited)
        clipped = limited < plain
    token_losses = -surrogate if importance_RT is None else -surrogate * importance_RT
    divergence = 0.0
    if loss.kl > 0:
        assert reference_logprobs_RT is not None
        away = (reference_logprobs_RT - logprobs_RT).masked_fill(~mask_RT, 0.0)
        k3 = away.exp() - away - 1
        token_losses = token_losses + loss.kl * k3
        divergence = k3.detach().sum().item()
    weights_RT = weights_R[..., None].to(token_losses.dtype)
    bonus = 0.0
    if entropy_bonus_RT is not None:
        token_losses = token_losses - entropy_bonus_RT
        bonus = (weights_RT * entropy_bonus_RT.detach().masked_fill(~mask_RT, 0.0)).sum().item()
    total = (weights_RT * token_losses.masked_fill(~mask_RT, 0.0)).sum()
    return total, LossMetrics((clipped & mask_RT).sum().item(), divergence, bonus)

"""The policy-gradient loss of a batch of groups."""

from torch import Tensor


def token_level_loss(
    logprobs_PGT: Tensor, old_logprobs_PGT: Tensor, advantages_PG: Tensor, mask_PGT: Tensor, total_tokens: int
) -> Tensor:
    """−Σ ratio · advantage over all tokens, divided by the tokens of the whole generation batch: a scalar.

    Token-level aggregation of DAPO (Yu et al. 2025, arXiv:2503.14476, eq. 8): a long completion counts by its tokens.
    The ratio π/π_old is 1 in value, for the one optimiser step per batch is on-policy; its gradient is that of log π,
    so this is REINFORCE with the group's mean as baseline.

    Args:
        logprobs_PGT: log-probabilities under the policy, differentiable.
        old_logprobs_PGT: log-probabilities under the policy that sampled.
        advantages_PG: one advantage for all tokens of a completion.
        mask_PGT: True at completion tokens.
        total_tokens: completion tokens over all micro-batches, so that their losses add up to the batch's.
    """
    ratio = (logprobs_PGT - old_logprobs_PGT).exp()
    return -(ratio * advantages_PG[..., None] * mask_PGT).sum() / total_tokens

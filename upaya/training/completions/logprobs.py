"""Log-probabilities of completions under the policy, with each prompt computed once for all its completions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from upaya.declared.sampling import PLAIN, SamplingParams
from upaya.policy.attention import attention
from upaya.policy.model import Policy
from upaya.sampling.decoding import truncated
from upaya.training.completions import packing
from upaya.training.completions.packing import Layout, length_mask

NO_CHANCE = -100.0  # stands for the logarithm of 0, so that its product with 0 is 0
ROWS_AT_ONCE = 256  # positions whose logits are worked on together: small enough to stay in a core's cache


def completion_logprobs(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    prompt_of_row: Tensor,
    tokens_RT: Tensor,
    lengths: Tensor,
    sampling: SamplingParams = PLAIN,
    entropies: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probability of every completion token, and the entropy in nats of the distribution that it was drawn from (0
    unless asked for), both differentiable: [R, T] each, on the CPU; 0 beyond a completion's length.

    One pass over a row without padding (packing.py beside this): each prompt once, logits only where there are
    completion tokens. Equals R full passes, gradients included.

    Args:
        prompts: B lists of token ids.
        prompt_of_row: which of them each completion answers, [R].
        tokens_RT: completion tokens, padded at the end.
        lengths: of the completions, [R].
        sampling: how the tokens were drawn: the log-probabilities are those of the distribution drawn from.
        entropies: whether to compute them: another pass over the vocabulary.
    """
    device = policy.model.device
    layout = Layout.of(prompts, prompt_of_row, tokens_RT, lengths).to(device)
    with attention(policy.model, packing.NAME):
        logits = policy.forward(
            input_ids=layout.tokens, position_ids=layout.positions, logits_to_keep=layout.predicts, use_cache=False,
            layout=layout,
        ).logits  # fmt: skip
    inside = length_mask(lengths, tokens_RT.shape[1])
    # squeeze, and not [0], whose backward pass copies the whole gradient
    chosen = chosen_logprobs(logits.squeeze(0), tokens_RT[inside].to(device), sampling, entropies)
    logprobs, spread = (torch.zeros(tokens_RT.shape).masked_scatter(inside, part.to(inside.device)) for part in chosen)
    return logprobs, spread


def chosen_logprobs(
    logits: Tensor, tokens: Tensor, sampling: SamplingParams = PLAIN, entropies: bool = False
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the given tokens in the distribution that they were drawn from, and that distribution's
    entropies (0 unless asked for), in float32: [N, V] and [N] → [N] and [N].

    That is softmax(logits / temperature), renormalised over what top-k, top-p and min-p leave; what they leave is taken
    as given, without a gradient. A token that was drawn counts as left: whether it is may be a matter of rounding.

    The logits are used up: the backward pass writes their gradient into their own memory, so that the vocabulary's
    dimension stands in memory once. (log_softmax followed by gather keeps its result beside the logits and builds a
    gradient beside both.)
    """
    chosen: tuple[Tensor, Tensor] = _ChosenLogprobs.apply(logits, tokens, sampling, entropies)
    return chosen


class _ChosenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, tokens: Tensor, sampling: SamplingParams, entropies: bool
    ) -> tuple[Tensor, Tensor]:
        normaliser = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        spread = torch.zeros_like(normaliser)
        for start in range(0, len(logits), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            left = _left(logits[rows], tokens[rows], sampling)
            normaliser[rows] = torch.logsumexp(left, dim=-1)
            if entropies:
                logprobs = left - normaliser[rows, None]
                spread[rows] = -(logprobs.exp() * logprobs.clamp(min=NO_CHANCE)).sum(-1)
        chosen = logits.gather(1, tokens[:, None])[:, 0].float() / (sampling.temperature or 1.0)
        ctx.logits, ctx.sampling = logits, sampling
        ctx.entropies = entropies
        ctx.save_for_backward(tokens, normaliser, spread)
        return chosen - normaliser, spread

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """d log p(token) / d logits = (one-hot(token) − p) / temperature, and that of the entropy H is
        −p · (log p + H) / temperature, p being 0 for what is not left."""
        tokens, normaliser, spread = ctx.saved_tensors
        logits, ctx.logits = ctx.logits, None
        weights, spreading = (gradient / (ctx.sampling.temperature or 1.0) for gradient in gradients)
        for start in range(0, len(logits), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            part = logits[rows]
            logprobs = _left(part, tokens[rows], ctx.sampling).sub_(normaliser[rows, None])
            if ctx.entropies:
                surprise = logprobs.clamp(min=NO_CHANCE).add_(spread[rows, None])
                factors = surprise.mul_(-spreading[rows, None]).sub_(weights[rows, None])
                part.copy_(factors.mul_(logprobs.exp_()))
            else:
                part.copy_(logprobs.exp_().mul_(-weights[rows, None]))
        chosen = (torch.arange(len(tokens), device=tokens.device), tokens)
        logits[chosen] += weights.to(logits.dtype)
        return logits, None, None, None


def _left(logits: Tensor, tokens: Tensor, sampling: SamplingParams) -> Tensor:
    """Logits over the temperature in float32, −∞ where the sampling leaves nothing: [n, V]."""
    scaled = logits.float()
    if sampling.temperature not in (0, 1):
        scaled = scaled / sampling.temperature
    if not sampling.truncates:
        return scaled
    gone = truncated(scaled.softmax(-1), sampling) == 0
    return scaled.masked_fill(gone.scatter(1, tokens[:, None], False), -torch.inf)

"""Log-probabilities of completions under the policy, with each prompt computed once for all its completions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from upaya.policy import Policy
from upaya.sampling import prompt_batch, prompt_mask

ROWS_AT_ONCE = 256  # positions whose logits are worked on together: small enough to stay in a core's cache


def completion_logprobs(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    prompt_of_row: Tensor,
    tokens_RT: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """Log-probability of every completion token, differentiable: [R, T].

    A prompt's keys and values are computed once and spread over its completions; gradients flow back through them, so
    this equals R full passes at a fraction of the tokens. Padding positions hold finite values without meaning.

    Args:
        prompts: B lists of token ids.
        prompt_of_row: which of them each completion answers, [R].
        tokens_RT: completion tokens, padded at the end.
        temperature: the sampling temperature, by which logits are divided as they were when sampling.
    """
    R, T = tokens_RT.shape
    ids, valid, positions = prompt_batch(prompts, policy.pad_id)
    cache = DynamicCache(config=policy.model.config)
    first = policy.model(
        input_ids=ids, attention_mask=prompt_mask(valid), position_ids=positions, past_key_values=cache,
        use_cache=True, logits_to_keep=1,
    ).logits[:, -1]  # fmt: skip
    logprobs = [chosen_logprobs(first.index_select(0, prompt_of_row), tokens_RT[:, 0], temperature)[:, None]]
    if T > 1:
        for layer in cache.layers:
            assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
            layer.keys, layer.values = (kept.index_select(0, prompt_of_row) for kept in (layer.keys, layer.values))
        seen = valid[prompt_of_row, None, None].expand(-1, 1, T - 1, -1)
        causal = torch.ones(T - 1, T - 1, dtype=torch.bool).tril().expand(R, 1, -1, -1)
        rest = policy.model(
            input_ids=tokens_RT[:, :-1],
            attention_mask=torch.cat([seen, causal], dim=-1),
            position_ids=valid.sum(1)[prompt_of_row, None] + torch.arange(T - 1),
            past_key_values=cache,
            use_cache=True,
        ).logits
        following = tokens_RT[:, 1:].flatten()
        logprobs.append(chosen_logprobs(rest.flatten(0, 1), following, temperature).view(R, T - 1))
    return torch.cat(logprobs, dim=1)


def chosen_logprobs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(logits / temperature) at the given tokens, in float32: [N, V] and [N] → [N].

    The logits are used up: the backward pass writes their gradient into their own memory, so that the vocabulary's
    dimension stands in memory once. (log_softmax followed by gather keeps its result beside the logits and builds a
    gradient beside both.)
    """
    found: Tensor = _ChosenLogprobs.apply(logits, tokens, temperature)
    return found


class _ChosenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
        normaliser = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        for start in range(0, len(logits), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            part = logits[rows].float()
            normaliser[rows] = torch.logsumexp(part if temperature == 1 else part / temperature, dim=-1)
        chosen = logits.gather(1, tokens[:, None])[:, 0].float() / temperature
        ctx.logits, ctx.temperature = logits, temperature
        ctx.save_for_backward(tokens, normaliser)
        return chosen - normaliser

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """d log p(token) / d logits = (one-hot(token) − softmax(logits / temperature)) / temperature."""
        tokens, normaliser = ctx.saved_tensors
        logits, ctx.logits = ctx.logits, None
        weights = gradients[0] / ctx.temperature
        for start in range(0, len(logits), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            part = logits[rows]
            softmax = (part.float() / ctx.temperature - normaliser[rows, None]).exp_()
            part.copy_(softmax.mul_(-weights[rows, None]))
        return logits.scatter_add_(1, tokens[:, None], weights[:, None].to(logits.dtype)), None, None

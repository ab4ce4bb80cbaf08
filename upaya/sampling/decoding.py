"""Rollouts: sample G completions for each prompt from the policy.

One prefill per prompt is shared by its group, and so are its keys and values (shared_prefix.py beside this); those of
the completions are preallocated, and finished sequences leave the batch.
The random number behind a token depends only on (seed, stream, step, prompt, sample, position), so what is sampled does
not depend on how rollouts are batched.
"""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from upaya.declared.sampling import ROWS_AT_ONCE, SamplingParams
from upaya.policy.attention import attention
from upaya.policy.model import Policy
from upaya.sampling import shared_prefix
from upaya.sampling.captured import captured
from upaya.sampling.philox import Stream, uniforms
from upaya.sampling.shared_prefix import SharedPrefixCache

FEWEST_PLACES = 128  # that a recorded step reads


@dataclass
class Rollouts:
    """G completions for each of P prompts, padded to the longest completion T.

    Attributes:
        prompts: P lists of token ids.
        tokens_PGT: sampled tokens, the end token included; pad_id after it.
        lengths_PG: tokens of each completion, the end token included.
        logprobs_PGT: log-probability of each sampled token in the distribution drawn from; 0 after the end.
        entropies_PGT: entropy in nats of that distribution before truncation; 0 after the end.
        dropped_PGT: probability that truncation took from it; 0 after the end.
        finished_PG: whether the completion ended by itself rather than at the token limit.
    """

    prompts: list[list[int]]
    tokens_PGT: Tensor
    lengths_PG: Tensor
    logprobs_PGT: Tensor
    entropies_PGT: Tensor
    dropped_PGT: Tensor
    finished_PG: Tensor

    @classmethod
    def joined(cls, parts: Sequence["Rollouts"]) -> "Rollouts":
        """All groups of several rollouts, padded to the longest completion among them."""
        if len(parts) == 1:
            return parts[0]
        longest = max(part.tokens_PGT.shape[2] for part in parts)

        def padded(name: str, value: float) -> Tensor:
            tensors = [getattr(part, name) for part in parts]
            return torch.cat([F.pad(tensor, (0, longest - tensor.shape[2]), value=value) for tensor in tensors])

        return cls(
            [prompt for part in parts for prompt in part.prompts],
            padded("tokens_PGT", 0),  # what stands beyond a length is never looked at
            torch.cat([part.lengths_PG for part in parts]),
            padded("logprobs_PGT", 0.0),
            padded("entropies_PGT", 0.0),
            padded("dropped_PGT", 0.0),
            torch.cat([part.finished_PG for part in parts]),
        )

    def taken(self, groups: Sequence[int]) -> "Rollouts":
        """The given groups, in the given order."""
        tensors = {key: value[list(groups)] for key, value in vars(self).items() if isinstance(value, Tensor)}
        return Rollouts(prompts=[self.prompts[group] for group in groups], **tensors)

    def texts(self, policy: Policy, begun: Sequence[str] | None = None) -> list[list[str]]:
        """The completions. Args: begun: for each prompt how its completions had been begun for the policy."""
        begun = begun or [""] * len(self.prompts)
        return [
            [policy.decode(row[:length], begin) for row, length in zip(group, lengths, strict=True)]
            for group, lengths, begin in zip(self.tokens_PGT.tolist(), self.lengths_PG.tolist(), begun, strict=True)
        ]


def prompt_batch(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Left-padded prompts: (tokens [B, P], valid [B, P] bool, positions [B, P])."""
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    valid = torch.arange(longest) >= longest - lengths[:, None]
    return tokens, valid, (valid.cumsum(1) - 1).clamp(min=0)


def prompt_mask(valid_BP: Tensor) -> Tensor:
    """Causal attention among the valid tokens of left-padded prompts: bool [B, 1, P, P].

    A padding token sees itself, for a row of attention without any key would be NaN.
    """
    size = valid_BP.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool, device=valid_BP.device).tril()
    return ((causal & valid_BP[:, None, :]) | torch.eye(size, dtype=torch.bool, device=valid_BP.device))[:, None]


def draw(logits: Tensor, uniform: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw one token per row by inverting the cumulative distribution.

    Args:
        logits: [rows, vocabulary].
        uniform: [rows] in [0, 1).

    Returns:
        (tokens [rows], their log-probabilities [rows], entropies [rows], dropped mass [rows]). The log-probability is
        that of the distribution drawn from (at the temperature, renormalised over what truncation leaves), which is
        what the policy gradient differentiates; the entropy that of the distribution before truncation; the dropped
        mass what truncation took from it.
    """
    if params.temperature == 0:
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        best, tokens = logprobs.max(dim=-1)
        return tokens, best, -torch.linalg.vecdot(logprobs.exp(), logprobs), torch.zeros_like(best)
    logprobs = torch.log_softmax(logits.float() / params.temperature, dim=-1)
    probabilities = logprobs.exp()
    kept = truncated(probabilities, params)
    cumulative = kept.double().cumsum(dim=-1)
    targets = uniform[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, targets, right=True).clamp(max=logits.shape[-1] - 1)
    chosen, dropped = logprobs.gather(1, tokens)[:, 0], torch.zeros_like(uniform, dtype=logprobs.dtype)
    if params.truncates:
        left = kept.sum(dim=-1)
        chosen, dropped = chosen - left.log(), 1 - left
    return tokens[:, 0], chosen, -torch.linalg.vecdot(probabilities, logprobs), dropped


def truncated(probabilities: Tensor, params: SamplingParams) -> Tensor:
    """Probabilities with those outside top-k, top-p and min-p set to 0 (not renormalised)."""
    if params.min_p > 0:
        floor = params.min_p * probabilities.amax(-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < floor, 0.0)
    if 0 < params.top_k < probabilities.shape[-1]:
        least = probabilities.topk(params.top_k, dim=-1).values[:, -1:]
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    if params.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.where(before < params.top_p * ordered.sum(-1, keepdim=True), 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(1, order, ordered)
    return probabilities


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    params: SamplingParams,
    *,
    seed: int,
    step: int,
    prompt_indices: Sequence[int],
    stream: Stream = Stream.ROLLOUTS,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Rollouts:
    """Sample `group_size` completions for each prompt.

    Args:
        prompts: P lists of token ids.
        prompt_indices: what stands for each prompt in the random numbers; must differ within a step.
        stream: what the random numbers are for.
        rows_at_once: completions decoded side by side, whole groups at a time; bounds the memory of the cache.

    Returns:
        Rollouts of shape [P, G, T]; T is the longest completion, at most params.max_new_tokens.
    """
    was_training = policy.model.training
    policy.model.eval()
    limit = params.max_new_tokens
    tokens = torch.full((len(prompts), group_size, limit), policy.pad_id)
    logprobs = torch.zeros(len(prompts), group_size, limit)
    entropies = torch.zeros(len(prompts), group_size, limit)
    dropped = torch.zeros(len(prompts), group_size, limit)
    lengths = torch.zeros(len(prompts), group_size, dtype=torch.long)
    per_call = max(1, rows_at_once // group_size)
    # Prompts of similar length share a call, so that little of the left padding is computed.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), per_call):
        chosen = order[start : start + per_call]
        indices = [prompt_indices[i] for i in chosen]
        uniform = torch.from_numpy(uniforms(seed, step, indices, group_size, limit, stream))
        with _eagerly():
            out = _decode(policy, [prompts[i] for i in chosen], group_size, params, uniform.flatten(0, 1))
        for into, part in zip((tokens, logprobs, entropies, dropped, lengths), out, strict=True):
            into[chosen] = part.view(len(chosen), group_size, *part.shape[1:])
    policy.model.train(was_training)
    longest = int(lengths.max())
    last = tokens.gather(2, (lengths - 1)[:, :, None])[:, :, 0]
    finished = torch.isin(last, torch.tensor(policy.eos_ids))
    return Rollouts(
        [list(prompt) for prompt in prompts],
        tokens[:, :, :longest].clone(),
        lengths,
        logprobs[:, :, :longest].clone(),
        entropies[:, :, :longest].clone(),
        dropped[:, :, :longest].clone(),
        finished,
    )


def _eagerly() -> AbstractContextManager[Any]:
    """Compiled layers are left out: a decoding step is too small, and its cache changes shape too often. Where nothing
    has imported the compiler, which takes seconds, nothing is compiled."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _decode(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    params: SamplingParams,
    uniform: Tensor,
) -> tuple[Tensor, ...]:
    """Prefill, then decode G rows for each prompt until all have ended. Shapes [B·G, T] and [B·G], on the CPU."""
    model, limit, device = policy.model, params.max_new_tokens, policy.model.device
    ids, valid, positions = (part.to(device) for part in prompt_batch(prompts, policy.pad_id))
    uniform = uniform.to(device)
    cache = SharedPrefixCache(model, limit)
    logits = model(
        input_ids=ids, attention_mask=prompt_mask(valid), position_ids=positions, past_key_values=cache,
        use_cache=True, logits_to_keep=1,
    ).logits[:, -1]  # fmt: skip
    prompt_of_row = torch.arange(len(prompts), device=device).repeat_interleave(group_size)
    cache.spread(prompt_of_row)
    logits = logits[prompt_of_row]
    mask = torch.zeros_like(valid, dtype=logits.dtype).masked_fill(~valid, -torch.inf)[:, None, None]
    next_position = valid.sum(1)[prompt_of_row]
    count = len(prompt_of_row)
    tokens = torch.full((count, limit), policy.pad_id, device=device)
    logprobs, entropies, dropped = torch.zeros(3, count, limit, device=device)
    lengths = torch.full((count,), limit, device=device)
    ends = torch.tensor(policy.eos_ids, device=device)
    rows = torch.arange(count, device=device)  # the output row of each row still in the batch
    alive = torch.ones(count, dtype=torch.bool, device=device)  # over the rows still in the batch
    # Taking rows copies the cache, so it waits until it saves a quarter; a recorded step is then recorded again.
    keep_until = 0.5 if records(device) else 0.75
    recorded: _Recorded | None = None
    with attention(model, shared_prefix.NAME):
        for position in range(limit):
            token, logprob, entropy, lost = draw(logits, uniform[rows, position], params)
            # Of a row that has ended nothing is written: what stands there already is written again.
            tokens[rows, position] = token.where(alive, policy.pad_id)
            for into, value in ((logprobs, logprob), (entropies, entropy), (dropped, lost)):
                into[rows, position] = value.where(alive, 0.0)
            ended = alive & torch.isin(token, ends)
            lengths[rows] = lengths[rows].masked_fill(ended, position + 1)
            alive &= ~ended
            left = int(alive.sum())
            if not left or position + 1 == limit:
                break
            if left <= keep_until * len(rows):
                recorded = None  # it reads and writes the rows as they were
                kept = alive.nonzero()[:, 0]
                prompts_kept, prompt_of_row = prompt_of_row[kept].unique_consecutive(return_inverse=True)
                cache.take(kept, prompts_kept, prompt_of_row)
                rows, token, next_position, mask = rows[kept], token[kept], next_position[kept], mask[prompts_kept]
                alive = alive[kept]
            if not records(device):
                logits = _step(model, cache, token, next_position, mask)
            else:
                if recorded is None or position >= recorded.span:
                    recorded = _Recorded(model, cache, token, next_position, mask, position)
                logits = recorded(token, next_position, position)
            next_position = next_position + 1
    return tokens.cpu(), logprobs.cpu(), entropies.cpu(), dropped.cpu(), lengths.cpu()


def _step(model: Any, cache: SharedPrefixCache, token: Tensor, position: Tensor, mask: Tensor) -> Tensor:
    """The logits after one more token of each row: [rows, vocabulary]."""
    out: Tensor = model(
        input_ids=token[:, None], attention_mask=mask, position_ids=position[:, None], past_key_values=cache,
        use_cache=True, shared_prefix=cache,
    ).logits[:, -1]  # fmt: skip
    return out


def records(device: torch.device) -> bool:
    """Whether decoding steps are recorded there."""
    return device.type == "cuda"


class _Recorded:
    """Decoding steps of some rows, recorded as one for as long as the rows stay and the places reach.

    Attributes:
        span: places of the completions' own tokens that it reads; the next longer one is twice that.
    """

    def __init__(
        self, model: Any, cache: SharedPrefixCache, token: Tensor, position: Tensor, mask: Tensor, place: int
    ) -> None:
        self.span = min(cache.own_layers[0].limit, max(FEWEST_PLACES, 1 << place.bit_length()))
        self.token, self.position = token.clone(), position.clone()
        self.at = torch.tensor([place], device=token.device)
        fixed = cache.fix(self.at, self.span)

        def step() -> Tensor:
            fixed.look(mask)
            return _step(model, cache, self.token, self.position, mask)

        self.replay = captured(step, first=not cache.own_layers[0].is_initialized)

    def __call__(self, token: Tensor, position: Tensor, place: int) -> Tensor:
        self.token.copy_(token)
        self.position.copy_(position)
        self.at.fill_(place)
        return self.replay()

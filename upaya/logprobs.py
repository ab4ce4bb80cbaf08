"""Log-probabilities of completions under the policy, with each prompt computed once for its whole group."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from upaya.policy import Policy
from upaya.sampling import prompt_batch, prompt_mask


def completion_logprobs(
    policy: Policy, prompts: Sequence[Sequence[int]], tokens_PGT: Tensor, temperature: float = 1.0
) -> Tensor:
    """Log-probability of every completion token, differentiable: [P, G, T].

    A prompt's keys and values are computed once and spread over its G completions; gradients flow back through them,
    so this equals G full passes at a fraction of the tokens. Padding positions hold finite values without meaning.

    Args:
        prompts: P lists of token ids.
        tokens_PGT: completion tokens, padded at the end.
        temperature: the sampling temperature, by which logits are divided as they were when sampling.
    """
    P, G, T = tokens_PGT.shape
    ids, valid, positions = prompt_batch(prompts, policy.pad_id)
    cache: Cache = DynamicCache(config=policy.model.config)
    prompt_logits = policy.model(
        input_ids=ids, attention_mask=prompt_mask(valid), position_ids=positions, past_key_values=cache,
        use_cache=True, logits_to_keep=1,
    ).logits  # fmt: skip
    first = prompt_logits[:, None].expand(P, G, 1, -1).reshape(P * G, 1, -1)
    tokens = tokens_PGT.reshape(P * G, T)
    if T == 1:
        logits = first
    else:
        cache.batch_repeat_interleave(G)
        seen = valid.repeat_interleave(G, 0)[:, None, None].expand(-1, 1, T - 1, -1)
        causal = torch.ones(T - 1, T - 1, dtype=torch.bool).tril().expand(P * G, 1, -1, -1)
        rest = policy.model(
            input_ids=tokens[:, :-1],
            attention_mask=torch.cat([seen, causal], dim=-1),
            position_ids=valid.sum(1).repeat_interleave(G)[:, None] + torch.arange(T - 1),
            past_key_values=cache,
            use_cache=True,
        ).logits
        logits = torch.cat([first, rest], dim=1)
    logits = logits.float() if temperature == 1 else logits.float() / temperature
    chosen = logits.gather(-1, tokens[..., None])[..., 0]
    return (chosen - logits.logsumexp(-1)).view(P, G, T)

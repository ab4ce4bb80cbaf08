"""Prompts and their completions in one row of tokens without padding: what a training pass reads.

The row holds each prompt once, then each completion's own tokens; the linear layers see neither padding nor copies of
a prompt. Only attention looks at single sequences: every prompt to itself, every completion to its prompt and itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from upaya.policy.attention import refuse_partial_attention

NAME = "upaya_packed"


@dataclass(frozen=True)
class Layout:
    """Where what lies in a row of N tokens: B prompts of up to P tokens, R completions of up to T.

    Attributes:
        tokens: [1, N].
        positions: of each token in its own sequence, [1, N].
        predicts: the places whose logits predict the completions' tokens, completion by completion, [Σ lengths].
        prompt_at: places of the prompts' tokens, padded on the right with 0, [B, P].
        completion_at: places of the completions' tokens but for their last, padded on the right with 0, [R, T − 1].
        prompt_of_row: which prompt a completion answers, [R].
        sees: what a completion token may attend to in its prompt and its completion, bool [R, 1, T − 1, P + T − 1].
        back: for each of the N tokens, its place in prompt_at and completion_at laid end to end, [N].
    """

    tokens: Tensor
    positions: Tensor
    predicts: Tensor
    prompt_at: Tensor
    completion_at: Tensor
    prompt_of_row: Tensor
    sees: Tensor
    back: Tensor

    def to(self, device: torch.device) -> Self:
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], prompt_of_row: Tensor, tokens_RT: Tensor, lengths: Tensor) -> Self:
        """Args: tokens_RT: completion tokens, padded at the end; lengths: of the completions, [R], each at least 1."""
        prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
        inside_prompt = length_mask(prompt_lengths, int(prompt_lengths.max()))
        inside = length_mask(lengths - 1, tokens_RT.shape[1] - 1)
        B, P = inside_prompt.shape
        R, T = inside.shape
        held, own = int(prompt_lengths.sum()), int((lengths - 1).sum())
        prompt_at = torch.zeros(B, P, dtype=torch.long)
        prompt_at[inside_prompt] = torch.arange(held)
        completion_at = torch.zeros(R, T, dtype=torch.long)
        completion_at[inside] = torch.arange(held, held + own)
        last_of_prompt = (prompt_lengths.cumsum(0) - 1)[prompt_of_row]
        predicting = torch.cat([last_of_prompt[:, None], completion_at], dim=1)
        positions = torch.cat(
            [
                torch.arange(P).expand(B, P)[inside_prompt],
                (prompt_lengths[prompt_of_row, None] + torch.arange(T))[inside],
            ]
        )
        sees = torch.cat(
            [
                inside_prompt[prompt_of_row, None].expand(R, T, P),
                torch.ones(T, T, dtype=torch.bool).tril().expand(R, T, T),
            ],
            dim=-1,
        )
        return cls(
            tokens=torch.cat([torch.tensor([t for prompt in prompts for t in prompt]), tokens_RT[:, :-1][inside]])[
                None
            ],
            positions=positions[None],
            predicts=predicting[length_mask(lengths, T + 1)],
            prompt_at=prompt_at,
            completion_at=completion_at,
            prompt_of_row=prompt_of_row,
            sees=sees[:, None],
            back=torch.cat([inside_prompt.flatten(), inside.flatten()]).nonzero()[:, 0],
        )


def length_mask(lengths: Tensor, longest: int) -> Tensor:
    """True at the tokens of each sequence: [...] lengths → bool [..., longest]."""
    return torch.arange(longest, device=lengths.device) < lengths[..., None]


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    layout: Layout,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention within the sequences of a packed row.

    Args:
        query: [1, heads, N, size].
        key, value: [1, key heads, N, size].

    Returns:
        [1, N, heads, size], as transformers expects it.
    """
    refuse_partial_attention(kwargs, int(layout.sees.shape[-1]))
    attend = partial(
        F.scaled_dot_product_attention, dropout_p=dropout, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    asked, keys, values = (_rows(states, layout.prompt_at) for states in (query, key, value))
    # Padding stands on the right, where a causal mask lets no token look.
    attended = [attend(asked, keys, values, is_causal=True)]
    if layout.completion_at.shape[1]:
        own_asked, own_keys, own_values = (_rows(states, layout.completion_at) for states in (query, key, value))
        keys = torch.cat([keys.index_select(0, layout.prompt_of_row), own_keys], dim=2)
        values = torch.cat([values.index_select(0, layout.prompt_of_row), own_values], dim=2)
        if query.is_cuda:  # no kernel there takes both a mask and grouped heads but the one that keeps all scores
            keys, values = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (keys, values))
        attended.append(attend(own_asked, keys, values, attn_mask=layout.sees))
    flat = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in attended])
    return flat.index_select(0, layout.back)[None], None


def _rows(states: Tensor, at: Tensor) -> Tensor:
    """The states at a table of places: [1, heads, N, size] and [rows, length] → [rows, heads, length, size]."""
    rows, length = at.shape
    taken = states[0].index_select(1, at.flatten())
    return taken.view(len(taken), rows, length, -1).transpose(0, 1)


AttentionInterface.register(NAME, packed_attention)

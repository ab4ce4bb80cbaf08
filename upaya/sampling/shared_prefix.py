"""Attention of completions to a prompt that they share: each prompt's keys and values stand in memory once, and one
matrix product per prompt and head serves all completions of the group.

A key-value cache as transformers knows it holds every prompt G times, and each decoding step reads it G times.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from upaya.policy.attention import refuse_partial_attention

NAME = "upaya_shared_prefix"


class SharedPrefixLayer(CacheLayerMixin):
    """Keys and values of one layer: the prompts' [B, heads, P, size], and those of each completion's own tokens in a
    preallocated buffer [rows, heads, limit, size]."""

    is_croppable = False

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.length = 0
        self.prompt_keys: Tensor | None = None
        self.prompt_values: Tensor | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, heads, _, size = key_states.shape
        self.keys = key_states.new_empty(rows, heads, self.limit, size)
        self.values = value_states.new_empty(rows, heads, self.limit, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The first call brings the prompts; every later one a token of each completion, and returns all so far."""
        if self.prompt_keys is None:
            self.prompt_keys, self.prompt_values = key_states, value_states
            return key_states, value_states
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        end = self.length + key_states.shape[2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.length + (0 if self.prompt_keys is None else self.prompt_keys.shape[2])

    def get_max_length(self) -> int:
        return -1


class SharedPrefixCache(Cache):
    """The cache of a model that decodes `rows` completions of some prompts side by side.

    Attributes:
        place: for each row its place in a table of prompts × completions per prompt; None where the rows fill it.
    """

    def __init__(self, model: PreTrainedModel, limit: int) -> None:
        self.own_layers = [SharedPrefixLayer(limit) for _ in range(model.config.num_hidden_layers)]
        super().__init__(layers=list(self.own_layers))
        self.place: Tensor | None = None
        self.table: Tensor | None = None
        self.width = 0

    def spread(self, prompt_of_row: Tensor) -> None:
        """Say which prompt each row belongs to: [rows], ascending, no prompt without a row."""
        counts = torch.bincount(prompt_of_row)
        self.width = int(counts.max())
        if bool((counts == self.width).all()):
            self.place = self.table = None
            return
        rows = torch.arange(len(prompt_of_row), device=prompt_of_row.device)
        first = counts.cumsum(0) - counts
        self.place = prompt_of_row * self.width + rows - first[prompt_of_row]
        self.table = torch.zeros(len(counts) * self.width, dtype=torch.long, device=rows.device)
        self.table[self.place] = rows  # places without a row repeat row 0, whose result is not read there

    def take(self, rows: Tensor, prompts: Tensor, prompt_of_row: Tensor) -> None:
        """Keep the given rows and prompts, in the given order. Args: prompt_of_row: as for `spread`, for those kept."""
        for layer in self.own_layers:
            assert layer.prompt_keys is not None and layer.prompt_values is not None
            if len(prompts) < len(layer.prompt_keys):
                layer.prompt_keys, layer.prompt_values = layer.prompt_keys[prompts], layer.prompt_values[prompts]
            if layer.is_initialized:
                assert layer.keys is not None and layer.values is not None
                layer.keys, layer.values = _kept(layer.keys, rows, layer), _kept(layer.values, rows, layer)
        self.spread(prompt_of_row)

    def by_prompt(self, values: Tensor) -> Tensor:
        """[rows, …] → [prompts · width, …]."""
        return values if self.table is None else values[self.table]

    def by_row(self, values: Tensor) -> Tensor:
        """[prompts · width, …] → [rows, …]."""
        return values if self.place is None else values[self.place]


def _kept(buffer: Tensor, rows: Tensor, layer: SharedPrefixLayer) -> Tensor:
    """The rows of a buffer in one of their own; what is not yet written is not copied."""
    kept = buffer.new_empty(len(rows), *buffer.shape[1:])
    kept[:, :, : layer.length] = buffer[rows, :, : layer.length]
    return kept


def shared_prefix_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    shared_prefix: SharedPrefixCache,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """One decoding step: softmax over the prompt's keys and the completion's own, as one.

    Args:
        query: [rows, heads, 1, size].
        key, value: the completions' own tokens so far, [rows, key heads, t, size].
        attention_mask: 0 at the prompts' tokens and −inf at their left padding, [B, 1, 1, P].
        scaling: of the products; size^-½ where None.

    Returns:
        [rows, 1, heads, size], as transformers expects it.
    """
    layer = shared_prefix.own_layers[module.layer_idx]
    refuse_partial_attention(kwargs, layer.get_seq_length())
    assert layer.prompt_keys is not None and layer.prompt_values is not None
    rows, heads, _, size = query.shape
    prompts, key_heads, length, _ = layer.prompt_keys.shape
    repeats, width = heads // key_heads, shared_prefix.width
    query = (query * (size**-0.5 if scaling is None else scaling)).view(rows, key_heads, repeats, size)
    asked = shared_prefix.by_prompt(query).view(prompts, width, key_heads, repeats, size).transpose(1, 2)
    to_prompt = asked.reshape(prompts, key_heads, width * repeats, size) @ layer.prompt_keys.mT + attention_mask
    to_prompt = to_prompt.view(prompts, key_heads, width, repeats, length).transpose(1, 2)
    to_prompt = shared_prefix.by_row(to_prompt.reshape(prompts * width, key_heads, repeats, length))
    weights = torch.cat([to_prompt, query @ key.mT], dim=-1).softmax(-1, dtype=torch.float32).to(value.dtype)
    on_prompt = shared_prefix.by_prompt(weights[..., :length])
    on_prompt = on_prompt.view(prompts, width, key_heads, repeats, length).transpose(1, 2)
    from_prompt = on_prompt.reshape(prompts, key_heads, width * repeats, length) @ layer.prompt_values
    from_prompt = from_prompt.view(prompts, key_heads, width, repeats, -1).transpose(1, 2)
    from_prompt = shared_prefix.by_row(from_prompt.reshape(prompts * width, key_heads, repeats, -1))
    return (from_prompt + weights[..., length:] @ value).reshape(rows, 1, heads, -1), None


AttentionInterface.register(NAME, shared_prefix_attention)

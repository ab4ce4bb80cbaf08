"""Attention of completions to a prompt that they share: each prompt's keys and values stand in memory once, and one
matrix product per prompt and head serves all completions of the group.

A key-value cache as transformers knows it holds every prompt G times, and each decoding step reads it G times.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from upaya.policy.attention import refuse_partial_attention

NAME = "upaya_shared_prefix"


@dataclass
class Fixed:
    """A step of fixed shapes: it reads `span` of the completions' places whatever is written so far.

    Attributes:
        at: the place that the step writes, [1], on the device.
        ahead: 0 up to that place and −inf beyond it, [1, 1, 1, span]; each step makes it anew.
    """

    at: Tensor
    span: int
    ahead: Tensor | None = None

    def look(self, like: Tensor) -> None:
        """Make `ahead`. Args: like: of the type and device of the scores."""
        places = torch.arange(self.span, device=like.device)
        self.ahead = torch.zeros(1, 1, 1, self.span, dtype=like.dtype, device=like.device).masked_fill(
            places > self.at, -torch.inf
        )


class SharedPrefixLayer(CacheLayerMixin):
    """Keys and values of one layer: the prompts' [B, heads, P, size], and those of each completion's own tokens in a
    preallocated buffer [rows, heads, limit, size].

    Attributes:
        fixed: where a step is to be recorded (captured.py beside this): where it writes, and how much it reads.
    """

    is_croppable = False

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.length = 0
        self.fixed: Fixed | None = None
        self.prompt_keys: Tensor | None = None
        self.prompt_values: Tensor | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, heads, _, size = key_states.shape
        self.keys = self.buffer(key_states, rows, heads, self.limit, size)
        self.values = self.buffer(value_states, rows, heads, self.limit, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The first call brings the prompts; every later one a token of each completion, and returns all so far."""
        if self.prompt_keys is None:
            self.prompt_keys, self.prompt_values = key_states, value_states
            return key_states, value_states
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        if self.fixed is not None:
            self.keys.index_copy_(2, self.fixed.at, key_states)
            self.values.index_copy_(2, self.fixed.at, value_states)
            return self.keys[:, :, : self.fixed.span], self.values[:, :, : self.fixed.span]
        end = self.length + key_states.shape[2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    @property
    def reach(self) -> int:
        """Places of the completions' own tokens that a step reads: those written, or all that a recorded one does."""
        return self.length if self.fixed is None else self.fixed.span

    def buffer(self, like: Tensor, *shape: int) -> Tensor:
        """Room for what is to be written. A recorded step reads beyond what is written so far, weighs it with 0, and 0
        times whatever lay there could be no number."""
        return like.new_empty(shape) if self.fixed is None else like.new_zeros(shape)

    def take(self, rows: Tensor) -> None:
        """Keep the given rows of the completions' own keys and values; what is not yet written is not copied."""
        if self.is_initialized:
            assert self.keys is not None and self.values is not None
            self.keys, self.values = (self._kept(part, rows) for part in (self.keys, self.values))

    def _kept(self, buffer: Tensor, rows: Tensor) -> Tensor:
        kept = self.buffer(buffer, len(rows), *buffer.shape[1:])
        kept[:, :, : self.reach] = buffer[rows, :, : self.reach]
        return kept

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.reach + (0 if self.prompt_keys is None else self.prompt_keys.shape[2])

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

    def fix(self, at: Tensor, span: int) -> Fixed:
        """From now on a step writes at the place that `at` holds ([1], on the device), and reads `span` places."""
        fixed = Fixed(at, span)
        for layer in self.own_layers:
            layer.fixed = fixed
        return fixed

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
            layer.take(rows)
        self.spread(prompt_of_row)

    def by_prompt(self, values: Tensor) -> Tensor:
        """[rows, …] → [prompts · width, …]."""
        return values if self.table is None else values[self.table]

    def by_row(self, values: Tensor) -> Tensor:
        """[prompts · width, …] → [rows, …]."""
        return values if self.place is None else values[self.place]


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
    to_own = query @ key.mT
    if layer.fixed is not None:
        assert layer.fixed.ahead is not None
        to_own = to_own + layer.fixed.ahead
    weights = torch.cat([to_prompt, to_own], dim=-1).softmax(-1, dtype=torch.float32).to(value.dtype)
    on_prompt = shared_prefix.by_prompt(weights[..., :length])
    on_prompt = on_prompt.view(prompts, width, key_heads, repeats, length).transpose(1, 2)
    from_prompt = on_prompt.reshape(prompts, key_heads, width * repeats, length) @ layer.prompt_values
    from_prompt = from_prompt.view(prompts, key_heads, width, repeats, -1).transpose(1, 2)
    from_prompt = shared_prefix.by_row(from_prompt.reshape(prompts * width, key_heads, repeats, -1))
    return (from_prompt + weights[..., length:] @ value).reshape(rows, 1, heads, -1), None


AttentionInterface.register(NAME, shared_prefix_attention)

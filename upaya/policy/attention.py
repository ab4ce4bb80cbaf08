"""Another attention function for a while, and what those of this project leave out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from upaya.errors import UserError
from upaya.paths import CURRICULA

TOKENS = 64  # from so many on torch's kernel for the CPU packs bfloat16


@contextmanager
def attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """The model with another attention function for a while."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def refuse_partial_attention(kwargs: dict[str, Any], length: int) -> None:
    """Raise UserError where a model's attention does something that these functions leave out."""
    window = kwargs.get("sliding_window")
    if (window and window < length) or kwargs.get("softcap") or kwargs.get("s_aux") is not None:
        raise UserError("this model's attention has a window, a cap or a sink: only full attention is known here")


def need_bfloat16(device: torch.device) -> None:
    """Raises UserError where attention cannot be computed in bfloat16: held to AVX2 (`numerics.mode`), torch's kernel
    still packs by what a processor with AVX-512 has more, and fails."""
    states = torch.zeros(1, 1, TOKENS, 16, dtype=torch.bfloat16, device=device)
    try:
        F.scaled_dot_product_attention(states, states, states, is_causal=True)
    except RuntimeError as error:
        raise UserError(
            f"{CURRICULA}: key 'numerics.mode': torch cannot compute attention in bfloat16 under it on this processor "
            f"({str(error).splitlines()[0]}). Say `native`, or compute in float32 (`dtype` in the model's file, "
            "`grpo.precision`)"
        ) from None

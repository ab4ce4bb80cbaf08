"""Another attention function for a while, and what those of this project leave out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel

from upaya.errors import UserError


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

"""The linear layers of an architecture: what adapters may stand beside."""

from typing import Any

import torch

from upaya.declared.model import Lora
from upaya.errors import UserError


def linear_layers(model: torch.nn.Module) -> list[str]:
    """The names of the linear layers within the decoder's layers: all but the head, and what is an adapter's own."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    names = {name.removesuffix(".base_layer").rpartition(".")[2] for name, module in model.named_modules()
             if isinstance(module, torch.nn.Linear) and module is not head and "lora_" not in name}  # fmt: skip
    return sorted(names)


def need_targets(source: str, model: Any, lora: Lora) -> None:
    """Raise UserError where a target names no linear layer of a model, which may be one without memory."""
    known = linear_layers(model)
    for target in lora.targets if isinstance(lora.targets, list) else []:
        if target not in known:
            raise UserError(
                f"{source}: lora.targets names {target!r}, no linear layer of this {model.config.model_type}; known: "
                f"{', '.join(known)}. Mend it in the model's file under params/models/."
            )

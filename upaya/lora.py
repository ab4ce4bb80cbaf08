"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), by peft: trained in place of all weights, merged on export."""

from typing import Any, Literal

import torch
from pydantic import Field
from transformers import AutoModelForCausalLM, PreTrainedModel

from upaya.errors import UserError
from upaya.validation import Declared


class Lora(Declared):
    """W + (alpha / rank) · B · A in place of W, with A [rank, in] and B [out, rank]; only A and B are trained."""

    rank: int = Field(gt=0)
    alpha: int = Field(gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | list[str] = Field(
        default="all-linear", description="names of modules (q_proj, …), or all linear layers but the head"
    )


def add_lora(model: PreTrainedModel, lora: Lora, seed: int) -> None:
    """Put adapters into the model, in float32, and leave only them to be trained. They start as nothing (B = 0)."""
    from peft import LoraConfig, inject_adapter_in_model  # takes a second to import, and most runs do without

    torch.manual_seed(seed)
    targets: Any = lora.targets
    if targets == "all-linear":
        targets = linear_layers(model)
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.enable_input_require_grads()  # checkpointed layers need an input with a gradient, and the embedding is frozen


@torch.no_grad()
def merge_lora(model: PreTrainedModel) -> None:
    """Add every adapter to the weights that it stands beside, and take it out. Nothing to do for other models."""
    if not any("lora_" in name for name, _ in model.named_parameters()):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def linear_layers(model: torch.nn.Module) -> list[str]:
    """The names of the linear layers within the decoder's layers: all but the head."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    found = {name.rpartition(".")[2] for name, module in model.named_modules()
             if isinstance(module, torch.nn.Linear) and module is not head}  # fmt: skip
    return sorted(found)


def need_targets(source: str, config: Any, lora: Lora) -> None:
    """Raise UserError where a target names no linear layer of an architecture; no weights are made for this."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    known = linear_layers(model)
    for target in lora.targets if isinstance(lora.targets, list) else []:
        if target not in known:
            raise UserError(
                f"{source}: lora.targets names {target!r}, no linear layer of this {config.model_type}; known: "
                f"{', '.join(known)}. Mend it in the model's file under params/models/."
            )

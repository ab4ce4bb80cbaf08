"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), by peft: trained in place of all weights, merged on export."""

from typing import Any

import torch
from transformers import PreTrainedModel

from upaya.declared.model import Lora
from upaya.policy.layers import linear_layers


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

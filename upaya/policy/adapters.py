"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), by peft: trained in place of all weights.

A policy is published as it was trained, adapters beside the weights that they were trained on: peft's layout, with
those weights in a folder of their own. Merged weights of bfloat16 have 8 bits, and lose what is smaller than half the
last of them: of an update of a thousandth of the weights, most (docs/scaling.md).
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from upaya.declared.model import Lora
from upaya.errors import UserError
from upaya.policy.layers import linear_layers
from upaya.policy.soundness import making

BASE = "base"  # beside an adapter's files: the folder of the model that it belongs to, in the transformers layout
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # of every name in peft's files
NAME = "default"  # what peft calls an adapter that nobody named


def add_lora(model: PreTrainedModel, lora: Lora, seed: int) -> None:
    """Leave only adapters to be trained, in float32: those that the model was published with, else new ones, which
    start as nothing (B = 0). Raises UserError where it was published with others than are declared."""
    targets = linear_layers(model) if lora.targets == "all-linear" else lora.targets
    if not has_adapters(model):
        from peft import LoraConfig, inject_adapter_in_model  # takes a second to import, and most runs do without

        torch.manual_seed(seed)
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
        inject_adapter_in_model(config, model)
    there = _config(model)
    has = (there.r, there.lora_alpha, there.lora_dropout, set(there.target_modules))
    if has != (lora.rank, lora.alpha, lora.dropout, set(targets)):
        raise UserError(
            f"lora: the policy was published with adapters of rank {there.r}, alpha {there.lora_alpha} and dropout "
            f"{there.lora_dropout} beside {', '.join(sorted(there.target_modules))}, which is not what the model's "
            "file under params/models/ declares: build it again from the warm-up on, or declare what it has"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.enable_input_require_grads()  # checkpointed layers need an input with a gradient, and the embedding is frozen


def has_adapters(model: PreTrainedModel) -> bool:
    return any("lora_" in name for name, _ in model.named_parameters())


def merge_lora(model: PreTrainedModel) -> None:
    """Add every adapter to the weights that it stands beside, in float32, round once, and take it out. Nothing to do
    for other models."""
    _take_out(model, merge=True)


def save_adapters(model: PreTrainedModel, folder: Path, lies_in: Path) -> None:
    """Write the adapters, and in BASE the model without them, which this one is afterwards.

    Args:
        lies_in: where the folder will be: what peft's file says of where the model is.
    """
    config = _config(model)
    config.base_model_name_or_path, config.inference_mode = str(lies_in / BASE), True
    config.target_modules = sorted(config.target_modules)  # a set has no order, and the same policy the same bytes
    tensors = {
        PREFIX + name.replace(f".{NAME}.", "."): parameter.detach().contiguous()
        for name, parameter in model.named_parameters()
        if "lora_" in name
    }
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    config.save_pretrained(folder)
    _take_out(model, merge=False)
    model.save_pretrained(folder / BASE)


def read_adapters(model: PreTrainedModel, folder: Path) -> None:
    """Put a folder's adapters into the model that they belong to, in float32. Raises UserError where they are not its
    adapters."""
    from peft import LoraConfig, inject_adapter_in_model

    with making(f"{folder / CONFIG} makes no adapters for the model in {folder / BASE}"):
        inject_adapter_in_model(LoraConfig.from_pretrained(str(folder)), model)
    with making(f"cannot read {folder / WEIGHTS}"):
        saved = load_file(folder / WEIGHTS)
    adapters = {
        PREFIX + name.replace(f".{NAME}.", "."): parameter
        for name, parameter in model.named_parameters()
        if "lora_" in name
    }
    strange = sorted(
        name for name in {*saved, *adapters}
        if name not in saved or name not in adapters or saved[name].shape != adapters[name].shape
    )  # fmt: skip
    if strange:
        raise UserError(
            f"{folder / WEIGHTS} does not hold the adapters that {CONFIG} beside it declares: {len(strange)} are "
            f"missing, of another shape or belong to no layer, {strange[0]} the first of them. Put both files of one "
            "adapter into the folder."
        )
    for name, parameter in adapters.items():
        parameter.data = saved[name].to(parameter.device)
    model.eval()  # dropout came with them


def _config(model: PreTrainedModel) -> Any:
    return model.peft_config[NAME]


@torch.no_grad()
def _take_out(model: PreTrainedModel, merge: bool) -> None:
    if not has_adapters(model):
        return
    from peft.tuners.lora import Linear

    adapted: list[tuple[str, Any]] = [each for each in model.named_modules() if isinstance(each[1], Linear)]
    for name, module in adapted:
        if merge:
            weight = module.get_base_layer().weight
            weight.copy_(weight.float() + module.get_delta_weight(NAME))
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module.get_base_layer())
    del model.peft_config
    for parameter in model.parameters():
        parameter.requires_grad_(True)

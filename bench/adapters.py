"""What is lost of adapters that are merged into bfloat16 weights, on random weights in Qwen2's shape.

    python -m bench.adapters

Needs what `make run` builds (the tokenizer). Adapters of several sizes, from updates as small as a short run's to large
ones. Of each: the share of the update's norm that the merged weights do not hold, and how far the log-probabilities of
a completion's tokens are from the trained policy's, merged and as published beside the weights.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
import typer
from rich.table import Table

from upaya.declared.model import Handling, Lora
from upaya.errors import UserError, shown_to_user
from upaya.policy.adapters import add_lora, merge_lora
from upaya.policy.model import Policy, load
from upaya.startup import start
from upaya.terminal import console
from upaya.training.completions.logprobs import completion_logprobs
from upaya.training.sft.from_scratch import from_config

BASE = Path("policies/base")
SHAPE = {
    "model_type": "qwen2", "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
TEXTS = ("眼界有见耶？", "<think>眼界者，色处所摄。</think><answer>有见</answer>")
SIZES = (3e-4, 1e-3, 3e-3, 1e-2, 1e-1)  # of the update, in parts of the weights' norm


def logprobs(policy: Policy) -> torch.Tensor:
    prompt, completion = policy.encode_prompt(TEXTS[0]), policy.encode_completion(TEXTS[1])
    one, lengths = torch.tensor([completion]), torch.tensor([len(completion)])
    with torch.no_grad():
        return completion_logprobs(policy, [prompt], torch.zeros(1, dtype=torch.long), one, lengths)[0]


def weights(policy: Policy) -> torch.Tensor:
    """Those that adapters stand beside, in float32, one after the other."""
    named = policy.model.named_parameters()
    return torch.cat([p.detach().float().flatten() for name, p in named if "_proj.weight" in name])


def of_size(folder: Path, size: float) -> tuple[float, float, float, float]:
    """The share of the update's norm that merging loses, and the largest change of a log-probability: by the update,
    and from there by being published merged and not. Args: folder: of the model. size: of the update, in parts of the
    weights' norm."""
    policy = load(folder, Handling(dtype="bfloat16"))
    before, untrained = weights(policy), logprobs(policy)
    add_lora(policy.model, Lora(rank=8, alpha=16), seed=1)
    torch.manual_seed(2)
    beside: list[Any] = [module for module in policy.model.modules() if hasattr(module, "get_delta_weight")]
    with torch.no_grad():
        for module in beside:
            module.lora_B["default"].weight.normal_()
            share = module.get_base_layer().weight.float().norm() / module.get_delta_weight("default").norm()
            module.lora_B["default"].weight.mul_(size * share)
        update = torch.cat([module.get_delta_weight("default").flatten() for module in beside])
    trained = logprobs(policy)
    with tempfile.TemporaryDirectory() as published:
        policy.save(Path(published))
        reloaded = load(published, Handling(dtype="bfloat16"))
    apart = (logprobs(reloaded) - trained).abs().max().item()
    merge_lora(reloaded.model)
    lost = (weights(reloaded) - before - update).norm() / update.norm()
    shift = (trained - untrained).abs().max().item()
    return lost.item(), shift, (logprobs(reloaded) - trained).abs().max().item(), apart


def main() -> None:
    if not BASE.is_dir():
        raise UserError(f"no {BASE}: the bench takes its tokenizer from the default curriculum; `make run`")
    table = Table(title="merged into bfloat16, against the trained policy", title_justify="left")
    log = "log-probability by"
    for column in ("update / weights", "lost of its norm", f"{log} the update", f"{log} merging", f"{log} publishing"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        from_config(SHAPE, load(BASE).tokenizer, seed=1).save(Path(folder))
        for size in SIZES:
            lost, *changes = of_size(Path(folder), size)
            table.add_row(f"{size:g}", f"{lost:.0%}", *(f"{change:.4f}" for change in changes))
    console.print(table)


if __name__ == "__main__":
    start()
    with shown_to_user():
        typer.run(main)

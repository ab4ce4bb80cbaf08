"""The memory that the stages take, beside what `upaya plan` says, for eight settings on the CPU.

    python -m bench.memory           # all, some twenty minutes
    python -m bench.memory 2 5       # some

Each in a scratch clone of the last commit: random weights in a shape, two steps of warm-up and two of GRPO by the
stages' own programs, with their rollouts and checkpoints. What is measured is the resident memory of the largest of a
stage's processes at its peak, as the kernel counts it. The estimate is that of the clone, with lengths in tokens. Needs
the questions that `make run` builds. (On a GPU: bench/gpu.)
"""

import contextlib
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench.scratch import NAME, Setting, clone, declare, stages
from upaya.declared.curricula import load_curricula
from upaya.declared.launch import load_launch
from upaya.declared.model import load_model_file
from upaya.errors import shown_to_user
from upaya.measuring.memory import GB, Needs
from upaya.measuring.plan import estimate, lengths_of
from upaya.measuring.shape import shape_of
from upaya.rewards.regimes import load_regimes
from upaya.terminal import console

QWEN2 = {"model_type": "qwen2", "max_position_embeddings": 1024, "tie_word_embeddings": True}
M6 = {**QWEN2, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 8,
      "num_key_value_heads": 4}  # fmt: skip
M24 = {**QWEN2, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8,
       "num_key_value_heads": 4}  # fmt: skip
M77 = {**QWEN2, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12,
       "num_key_value_heads": 4}  # fmt: skip
TINY = {**QWEN2, "model_type": "llama", "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4}  # fmt: skip
LORA = {"rank": 16, "alpha": 32}


def small(prompts: int, group: int, tokens: int, new: int, **grpo: object) -> dict[str, dict[str, object]]:
    """Batches that a slow machine takes in seconds."""
    until = {"regime": "form", "score": 0.97, "every": 40, "questions": prompts, "samples": group}
    return {
        "warmup": {"batch_size": prompts * 2, "tokens_per_micro_batch": tokens, "until": until},
        "grpo": {"prompts": prompts, "group_size": group, "tokens_per_micro_batch": tokens, "validation": None, **grpo},
        "sampling": {"max_new_tokens": new},
    }


SETTINGS = {
    "tiny, as declared": Setting(TINY),
    "float32, micro-batches of 16,384": Setting(M6, **small(32, 8, 16384, 64)),
    "the same, gradient checkpointing": Setting(M6, {"gradient_checkpointing": True}, **small(32, 8, 16384, 64)),
    "bfloat16, long completions": Setting(M24, {"dtype": "bfloat16"}, **small(4, 16, 4096, 256)),
    "float32, a reference, 32,768 tokens": Setting(
        {**M24, "vocab_size": 32768}, **small(4, 8, 1024, 64, loss={"kl": 0.05})
    ),
    "float32": Setting(M77, **small(4, 8, 1024, 32)),
    "bfloat16, LoRA, gradient checkpointing": Setting(
        {**M77, "vocab_size": 32768}, {"dtype": "bfloat16", "lora": LORA, "gradient_checkpointing": True},
        **small(8, 8, 4096, 64),
    ),
    "two processes, ZeRO 1": Setting(M24, launch={"processes": 2, "zero": 1, "threads": 1}, **small(8, 8, 2048, 64)),
}  # fmt: skip


def planned(project: Path) -> tuple[Needs, float]:
    """What `upaya plan` says of the clone, and the model's parameters."""
    with contextlib.chdir(project):
        curricula, model = load_curricula(load_regimes()), load_model_file(NAME)
        return estimate(curricula, model, load_launch(NAME), lengths_of(curricula, model)), shape_of(model).parameters


def main(numbers: Annotated[list[int] | None, typer.Argument(help="of settings, from 1")] = None) -> None:
    table = Table(title="GB of the largest process at its peak", title_justify="left")
    for column in ("setting", "M parameters", "estimate", "warm-up", "GRPO", "measured / estimate", "seconds"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    with tempfile.TemporaryDirectory(prefix="upaya-") as folder:
        project = clone(Path(folder).resolve())
        for number, (title, setting) in enumerate(SETTINGS.items(), start=1):
            if numbers and number not in numbers:
                continue
            declare(project, setting)
            needed, parameters = planned(project)
            found = stages(project)
            most = max(peak.memory for peak in found.values())
            table.add_row(
                f"{number}. {title}", f"{parameters / 1e6:.1f}", f"{needed.peak / GB:.2f}",
                *(f"{peak.memory / GB:.2f}" for peak in found.values()), f"{most / needed.peak:.2f}",
                f"{sum(peak.seconds for peak in found.values()):.0f}",
            )  # fmt: skip
            console.print(
                f"{title}: {needed.peak / GB:.2f} estimated, {most / GB:.2f} measured: {needed}", markup=False
            )
    console.print(table)


if __name__ == "__main__":
    with shown_to_user():
        typer.run(main)

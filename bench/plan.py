"""The memory and the seconds that the stages take, beside what `upaya plan` says, for eight settings on the CPU.

    python -m bench.plan           # all, some twenty minutes
    python -m bench.plan 2 5       # some

Each in a scratch clone of the last commit: random weights in a shape, two steps of warm-up and two of GRPO by the
stages' own programs, with their rollouts and checkpoints. What is measured is the resident memory of the largest of a
stage's processes at its peak, as the kernel counts it, with what is freed handed back at once (tasks/heap.py); and what
GRPO's second step took, for the first sets up what is used from then on. The estimate is that of the clone, with
lengths in tokens; the seconds at the least are those of what one thread here multiplies and copies while nothing else
runs. Needs the questions that `make run` builds. (On a GPU: bench/gpu.)
"""

import contextlib
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench.scratch import NAME, Setting, clone, declare, stages
from upaya.declared.curricula import load_curricula
from upaya.declared.launch import load_launch
from upaya.declared.model import load_model_file
from upaya.declared.numerics import Numerics
from upaya.errors import shown_to_user
from upaya.measuring.memory import GB, Needs
from upaya.measuring.plan import estimate, lengths_of
from upaya.measuring.roofline import Machine, measured, step_seconds
from upaya.measuring.shape import shape_of
from upaya.records.throughput import throughput_of
from upaya.rewards.regimes import load_regimes
from upaya.startup import start
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


@dataclass(frozen=True)
class Planned:
    """What `upaya plan` says of the clone. Attributes: seconds: of a step, rollouts and update, at the least."""

    needs: Needs
    parameters: int
    seconds: tuple[float, float]


def planned(project: Path) -> Planned:
    with contextlib.chdir(project):
        curricula, model, launch = load_curricula(load_regimes()), load_model_file(NAME), load_launch(NAME)
        lengths, shape = lengths_of(curricula, model), shape_of(model)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # this process stays small: see bench.scratch.run
            machine = pool.submit(_machine, model.dtype, curricula.numerics).result()
        return Planned(
            estimate(curricula, model, launch, lengths),
            shape.parameters,
            step_seconds(shape, model, curricula, launch, lengths, machine),
        )


def _machine(dtype: str, numerics: Numerics) -> Machine:
    start(numerics)
    return measured(dtype)


def taken(project: Path) -> tuple[float, float]:
    """Seconds of the rollouts and of the update of GRPO's second step."""
    with contextlib.chdir(project):
        last = throughput_of("lenient")[-1]["seconds"]
    return last["rollouts"], last["update"]


def beside(found: float, estimate: float) -> str:
    return f"{found:.2f} / {estimate:.2f} = {found / estimate:.2f}"


def main(numbers: Annotated[list[int] | None, typer.Argument(help="of settings, from 1")] = None) -> None:
    table = Table(
        title="GB of the largest process at its peak, and seconds of a step, over what is planned", title_justify="left"
    )
    for column in ("setting", "M parameters", "warm-up, GB", "GRPO, GB", "peak", "rollouts", "update"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    with tempfile.TemporaryDirectory(prefix="upaya-") as folder:
        project = clone(Path(folder).resolve())
        for number, (title, setting) in enumerate(SETTINGS.items(), start=1):
            if numbers and number not in numbers:
                continue
            declare(project, setting)
            plan, found = planned(project), stages(project)
            most = max(peak.memory for peak in found.values())
            table.add_row(
                f"{number}. {title}", f"{plan.parameters / 1e6:.1f}",
                *(f"{peak.memory / GB:.2f}" for peak in found.values()), beside(most / GB, plan.needs.peak / GB),
                *(beside(seconds, least) for seconds, least in zip(taken(project), plan.seconds, strict=True)),
            )  # fmt: skip
            console.print(f"{title}: {beside(most / GB, plan.needs.peak / GB)} GB: {plan.needs}", markup=False)
    console.print(table)


if __name__ == "__main__":
    with shown_to_user():
        typer.run(main)

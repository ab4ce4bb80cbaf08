"""Qwen2.5-0.5B's shape with random weights, in bfloat16, through the stages on a CPU: one step of warm-up and two of
GRPO, their time and memory beside what `upaya plan` says.

    python -m bench.half_billion     # some minutes, 12 GB of memory and 15 of disk

Few prompts and short completions: what is shown is that it goes, and what it holds. Needs the questions that `make run`
builds.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from bench.plan import planned, small
from bench.scratch import Setting, clone, declare, stages
from upaya.declared.model import load_model_file
from upaya.errors import shown_to_user
from upaya.measuring.memory import GB
from upaya.terminal import console

MODEL = "qwen2.5-0.5b-instruct"


def setting() -> Setting:
    """Its declared shape and handling, all weights trained; what is asked of it in the system prompt is left out."""
    model = load_model_file(MODEL)
    assert model.shape
    handling = {"dtype": model.dtype, "gradient_checkpointing": model.gradient_checkpointing}
    made = Setting(model.shape, handling, **small(2, 4, 1024, 32))
    return replace(made, warmup={**made.warmup, "max_steps": 1})


def main() -> None:
    table = Table(title=f"{MODEL}'s shape, random weights, one thread", title_justify="left")
    for column in ("stage", "GB at the peak", "estimate", "measured / estimate", "seconds in all"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    with tempfile.TemporaryDirectory(prefix="upaya-") as folder:
        project = clone(Path(folder).resolve())
        declare(project, setting())
        needed = planned(project).needs
        for stage, peak in stages(project).items():
            table.add_row(
                stage, f"{peak.memory / GB:.2f}", f"{needed.peak / GB:.2f}", f"{peak.memory / needed.peak:.2f}",
                f"{peak.seconds:.0f}",
            )  # fmt: skip
        console.print(str(needed), markup=False)
    console.print(table)


if __name__ == "__main__":
    with shown_to_user():
        main()

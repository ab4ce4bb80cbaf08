"""A larger shape, trained from nothing on the corpus through the default curriculum: how long, and what it comes to.

    python -m bench.larger 25m FOLDER      # hours on two CPU cores; stopped, the same command goes on
    python -m bench.larger tiny FOLDER     # the default itself

Everything is as params/ says but what changes with the width: learning rates in proportion to 1 / width, as Adam wants
them for matrices (Yang et al. 2022, Tensor Programs V), random weights to 1 / √width. Nothing was tuned for the larger
shapes: one seed each, a lead and no finding. On another machine than the one that the questions were built on, take
questions/ along.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from upaya.declared.model import load_model_file
from upaya.errors import UserError, shown_to_user
from upaya.files import read_json, read_text, write_json
from upaya.operating.changing import changed, write
from upaya.paths import CURRICULA, LIBRARIES, MODELS, ORIGIN, POLICIES, QUESTIONS, RESULTS
from upaya.terminal import console

BASE = "tiny"  # what the shapes are multiples of
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {},
    "25m": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8,
            "num_key_value_heads": 8},
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2},  # Qwen2.5-0.5B's
}  # fmt: skip
STAGES = {  # the commands, by what each leaves
    POLICIES / "base": "pretrain",
    POLICIES / "warmup": "warmup",
    RESULTS / "warmup/metrics.json": "evaluate warmup",
    POLICIES / "lenient": "grpo lenient",
    RESULTS / "lenient/metrics.json": "evaluate lenient",
    POLICIES / "lenient-strict": "grpo lenient-strict",
    RESULTS / "lenient-strict/metrics.json": "evaluate lenient-strict",
}
LEFT = (".*", "data", "mlruns", "policies", "results", "reports", "__pycache__")
DECLARED, SECONDS = "larger.json", "seconds.json"  # in the copy: what it was laid out as, and how long its stages took


def laid_out(folder: Path, asked: Mapping[str, Any]) -> None:
    """Make the folder a copy of this checkout that declares what is asked; whole, or not at all. Raises UserError where
    it is one of something else."""
    if folder.exists():
        file = folder / DECLARED
        before = read_json(file) if file.is_file() else None
        if before != asked:
            raise UserError(f"{folder} is there already, for {before or 'something else'}, not {asked}: name another")
        return
    if not QUESTIONS.is_dir():
        raise UserError(f"no {QUESTIONS}/: the bench takes them from this checkout; `make run` builds them")
    if folder.resolve().is_relative_to(Path.cwd()):
        raise UserError(f"{folder} is in this checkout, which is copied into it: name a folder elsewhere")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        project = Path(temporary) / "project"
        lay_out(project, SHAPES[asked["shape"]], asked["threads"], asked["seed"])
        write_json(project / DECLARED, asked)
        project.rename(folder)


def lay_out(project: Path, shape: Mapping[str, int], threads: int, seed: int | None) -> None:
    """A copy of this checkout that declares a shape."""
    shutil.copytree(".", project, ignore=shutil.ignore_patterns(*LEFT), symlinks=True)
    architecture = load_model_file(BASE).architecture
    assert architecture
    factor = architecture["hidden_size"] / shape.get("hidden_size", architecture["hidden_size"])

    def model(content: Any) -> None:
        content["architecture"] |= shape
        content["architecture"]["initializer_range"] *= factor**0.5
        content["pretraining"]["optimiser"]["learning_rate"] *= factor
        if shape:
            content["dtype"] = "bfloat16"  # of all stages but the first, which is in float32

    def curricula(content: Any) -> None:
        content["seed"] = content["seed"] if seed is None else seed
        content["warmup"]["optimiser"]["learning_rate"] *= factor
        for policy in content["policies"].values():
            policy["learning_rate"] *= factor
        content["numerics"]["threads"] = threads
        if shape:
            content["numerics"]["mode"] = "native"

    file = MODELS / f"{BASE}.yaml"
    write(
        {
            project / file: changed(file, model),
            project / CURRICULA: changed(CURRICULA, curricula),
            project / LIBRARIES: "\n".join(map(installed, read_text(LIBRARIES).splitlines())) + "\n",
        }
    )


def installed(line: str) -> str:
    """A line of params/libraries.yaml with the version that is here: a stage refuses others than it names."""
    name, colon, _ = line.partition(":")
    try:
        return f"{name}: {version(name).partition('+')[0]}" if colon and name[0].isalpha() else line
    except PackageNotFoundError:
        return line


def taken(project: Path) -> dict[str, float]:
    """Run the stages that have not run; the seconds of each, those of earlier calls with them."""
    file = project / SECONDS
    seconds: dict[str, float] = read_json(file) if file.is_file() else {}
    for made, stage in STAGES.items():
        if (project / made).exists():
            continue
        begun = time.monotonic()
        try:
            done = subprocess.run([sys.executable, "-m", "tasks", *stage.split()], cwd=project, check=False)
        finally:  # Ctrl-C too: the stage goes on from what it has saved, and so do its seconds
            seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - begun
            write_json(file, seconds)
        if done.returncode:
            raise UserError(f"{stage} ended with {done.returncode} in {project}; the same command goes on from there")
    return seconds


def main(
    shape: Annotated[str, typer.Argument(help=f"of {', '.join(SHAPES)}")],
    folder: Annotated[Path, typer.Argument(help="where it runs: a copy of this checkout")],
    threads: Annotated[int, typer.Option(min=1, help="of each operation on a CPU")] = 2,
    seed: Annotated[int | None, typer.Option(min=0, help="another one than declared")] = None,
) -> None:
    """Take a shape through the default curriculum."""
    with shown_to_user():
        if shape not in SHAPES:
            raise UserError(f"no shape {shape!r}; known: {', '.join(SHAPES)}")
        laid_out(folder, {"shape": shape, "threads": threads, "seed": seed})
        seconds = taken(folder)
        table = Table(title=f"{shape}: from nothing through the default curriculum", title_justify="left")
        for column in ("stage", "steps", "seconds", "strict accuracy on test"):
            table.add_column(column, justify="left" if column == "stage" else "right")
        for made, stage in STAGES.items():
            accuracy, steps = "", ""
            if made.parts[0] == POLICIES.name:
                steps = str(read_json(folder / made / ORIGIN)["steps"])
            else:
                found = read_json(folder / made)
                low, high = found["strict_low"], found["strict_high"]
                accuracy = f"{found['strict_accuracy']:.1%} [{low:.1%}, {high:.1%}]"
            table.add_row(stage, steps, f"{seconds[stage]:.0f}" if stage in seconds else "", accuracy)
        console.print(table)


if __name__ == "__main__":
    typer.run(main)

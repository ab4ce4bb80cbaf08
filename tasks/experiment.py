"""A stage in a DVC experiment's temporary copy of the checkout: what it shares with the checkout that it is a copy of.

DVC removes the copy, or leaves it behind for good, when the experiment is stopped. So the work folder stands in the
checkout itself, under the experiment's name: the same experiment, started again, goes on from its checkpoints.
"""

import os
import subprocess
from pathlib import Path

from upaya.paths import EXPERIMENTS, WORK, main_checkout, progress_file
from upaya.terminal import Reached, console, reached

DVC_EXPERIMENT = "DVC_EXP_NAME"  # set by DVC for the stages of an experiment
INPUTS = ("params", "corpus", "components", "tasks", "upaya", "dvc.yaml")


def share_work() -> None:
    """In an experiment's copy, before a stage works there: its work folder is the checkout's. Nothing elsewhere."""
    checkout, name = main_checkout(), os.environ.get(DVC_EXPERIMENT)
    if not name or checkout == Path.cwd():
        return
    shared = checkout / experiment_work(name)
    shared.mkdir(parents=True, exist_ok=True)
    if WORK.is_symlink():  # by an earlier stage
        return
    WORK.parent.mkdir(exist_ok=True)
    WORK.symlink_to(shared)
    if files := untracked(checkout):
        console.print(f"git does not know {', '.join(files)}: this experiment does without")


def experiment_work(name: str) -> Path:
    """Where the stages of an experiment work, from the checkout's root. One of its names can have slashes."""
    return EXPERIMENTS / name.replace("/", "-")


def furthest(name: str) -> Reached | None:
    """How far the stage is that is at work in an experiment."""
    noted = [progress_file(file.stem, file.parent) for file in experiment_work(name).glob("*.progress")]
    return reached(max(noted, key=lambda file: file.stat().st_mtime)) if noted else None


def untracked(checkout: Path) -> list[str]:
    """The files among those that stages read which git does not know: an experiment is a copy of what it knows."""
    command = ["git", "ls-files", "--others", "--exclude-standard", "--", *INPUTS]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False).stdout.split("\n")[:-1]

"""The program of a stage, as DVC and people start it: `tasks/run grpo lenient`, `python -m tasks grpo lenient`.

What is declared is read, and refused where it is wrong, before torch is imported: a mistake anywhere in params/ is said
in a second, by the first stage that runs.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence

from tasks import launch
from tasks.experiment import share_work
from tasks.tree import end_with_parent
from upaya.declared.curricula import load_curricula
from upaya.declared.launch import load_launch
from upaya.declared.libraries import need_installed
from upaya.declared.validation import Name, validated
from upaya.errors import UserError, nearest, shown_to_user
from upaya.rewards.regimes import load_regimes
from upaya.startup import start_as_declared

DVC_STAGE = "DVC_STAGE"  # set by DVC for what it starts: a stage that it started ends with it
PLAIN = ("convert", "arm", "compare", "page", "comparison_page")
COMPUTING, TRAINING = ("evaluate", "probe"), ("pretrain", "warmup", "grpo")
OF_A_POLICY = ("grpo", "evaluate", "probe", "arm", "page")


def main(arguments: Sequence[str]) -> None:
    """Run a stage. Raises UserError, and what the stage raises."""
    stage, policy = understood(arguments)
    if DVC_STAGE in os.environ:
        end_with_parent()
        share_work()
    need_installed(stage)
    if stage in PLAIN:
        _program(stage)(*policy)
        return
    curricula = load_curricula(load_regimes())
    if stage in COMPUTING:
        start_as_declared()
        _program(stage)(*policy)
        return
    launch.run(arguments, curricula, load_launch(curricula.launch), lambda: _program(stage)(*policy))


def understood(arguments: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The stage and the policy that it is about, where it is about one. Raises UserError."""
    known = (*PLAIN, *COMPUTING, *TRAINING)
    if not arguments or arguments[0] not in known:
        wrong = f"no stage {arguments[0]!r}; {nearest(arguments[0], known)}" if arguments else "name a stage"
        raise UserError(f"{wrong}. Usage: tasks/run STAGE [POLICY]")
    stage, *rest = arguments
    if len(rest) != (stage in OF_A_POLICY):
        raise UserError(f"usage: tasks/run {stage}{' POLICY' if stage in OF_A_POLICY else ''}")
    return stage, tuple(validated(Name, name, "the policy") for name in rest)


def _program(stage: str) -> Callable[..., None]:
    """The stage's own code, which imports torch where it needs it."""
    program: Callable[..., None] = importlib.import_module(f"tasks.{stage}").main
    return program


if __name__ == "__main__":
    with shown_to_user():
        main(sys.argv[1:])

"""Stages in processes forked from one that has imported what stages import already: seconds less for each.

What runs is the stage's own program; only the shell and the imports are spared. Tests of those start `tasks/run`.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

import pytest
from conftest import QUIET, ROOT

from upaya.errors import shown_to_user

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["preloaded"])


class Forked:
    """A stage at work in a project, e.g. Forked(project, "grpo", "lenient")."""

    def __init__(self, project: Path, *arguments: str) -> None:
        self.log = Path(tempfile.mkstemp(dir=project, suffix=".log")[1])
        with pytest.MonkeyPatch.context() as only_now:  # for the server alone: other programs run as a user's do
            only_now.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
            forkserver.ensure_running()
        self._process = _context.Process(target=_run, args=(project, arguments, self.log), daemon=True)
        self._process.start()

    def ended(self) -> bool:
        return self._process.exitcode is not None

    def said(self) -> str:
        return self.log.read_text()

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit code (a signal's number negative); None where it is still at work after so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode

    @contextmanager
    def held(self) -> Iterator[None]:
        """At work for as long as it takes, and no further."""
        assert self._process.pid
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def terminate(self) -> None:
        self._process.terminate()


def stage(project: Path, *arguments: str) -> str:
    """Run a stage to its end. Returns what it said."""
    process = Forked(project, *arguments)
    assert process.wait() == 0, process.said()
    return process.said()


def _run(project: Path, arguments: tuple[str, ...], log: Path) -> None:
    os.chdir(project)
    os.environ.update(QUIET)
    with log.open("w") as out:
        os.dup2(out.fileno(), sys.stdout.fileno())
        os.dup2(out.fileno(), sys.stderr.fileno())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from tasks.__main__ import main

    with shown_to_user():
        main(arguments)

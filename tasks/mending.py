"""What a kill can leave half made and is not ours: found when a flow starts, put right where that is safe, and said."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import psutil
from dvc.lock import LockError, make_lock
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

from tasks.tree import FLOW, flow_lives
from upaya.paths import EXPERIMENTS

DVC_TMP = Path(".dvc/tmp")
SERVER = "prefect.server.api.server:create_app"


def mended() -> list[str]:
    """Put right what can be; what was found and done, in words."""
    return [*_dvc_locks(), *_experiments(), *_servers()]


def _dvc_locks() -> list[str]:
    """DVC notes in this file who reads and writes what. A kill while it is written leaves it in pieces, and no command
    of DVC works then. What it held is of processes that are gone, or is noted again by those that are not."""
    said = []
    for folder in (DVC_TMP, DVC_TMP / "exps"):
        file = folder / RWLOCK_FILE
        if not file.is_file():
            continue
        with contextlib.suppress(LockError):  # somebody is at it, so it is in use and whole soon
            guard = make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder), hardlink_lock=False)
            with guard:
                try:
                    json.loads(file.read_text(encoding="utf-8"))
                except ValueError:
                    file.unlink()
                    said.append(f"{file} was left in pieces by a DVC that was killed: removed")
    return said


def _experiments() -> list[str]:
    """The copies of experiments that were killed, each as large as the project, and DVC's notes that say they run.
    Where an experiment is at work in this checkout, by a flow, by hand or from DVC's queue, none is touched."""
    exps = DVC_TMP / "exps"
    if _at_work_here("exp", "run") or _at_work_here(below=exps):
        return []
    said = []
    for copy in sorted((exps / "standalone").glob("tmp*")):
        shutil.rmtree(copy, ignore_errors=True)
        said.append(f"the copy of an experiment that was killed ({copy}): removed")
    for note in [*exps.glob("run/*/*.run"), *exps.glob("standalone/run/*/*.run")]:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if "standalone" in (root := json.loads(note.read_text())["root_dir"]) and not Path(root).exists():
                shutil.rmtree(note.parent)
    for work in EXPERIMENTS.glob("*"):
        if all(file.suffix == ".lock" for file in work.glob("*")):  # done: it would go on from nothing
            shutil.rmtree(work)
    return said


def _at_work_here(*words: str, below: Path = Path()) -> bool:
    """Whether a process works in a folder or below it, with these words in its command line."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(below.resolve()) and set(words) <= set(process.cmdline()):
                return True
    return False


def _servers() -> list[str]:
    """Prefect's temporary servers of flows that are gone: each takes 200 MB and serves nobody."""
    said = []
    for process in psutil.process_iter():
        try:
            if process.uids().real != os.getuid() or SERVER not in process.cmdline():
                continue
            mark = process.environ().get(FLOW)
            if mark and not flow_lives(mark):
                process.terminate()
                said.append(f"Prefect's server of a flow that was killed (process {process.pid}): ended")
        except psutil.Error:
            continue
    return said

"""DVC's graph as Prefect tasks: one task brings one DVC stage up to date.

DVC decides what is current. Nothing here lists stages, and Prefect's own result cache is off. A stage runs in a process
of its own, `python -m tasks.repro ADDRESS`.
"""

import contextlib
import copy
import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

from dvc.repo import Repo
from dvc.stage.serialize import to_single_stage_lockfile
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from tasks import tree
from tasks.prefect_ui import Lines, served
from tasks.repro import PASSING, path_and_name
from upaya.errors import UserError
from upaya.files import write_json
from upaya.operating.pipeline import dvc_errors_in_words, in_order
from upaya.paths import CURRICULA, DATA_POINTER, LOCK, PIPELINE, TIMES, progress_file
from upaya.records.times import stage_seconds
from upaya.terminal import reached

SECONDS_TO_RETRY = (10.0, 60.0)  # after a stage that was killed, or while somebody else is at work with DVC
PASSING_STATE = "Interrupted"


class Pipeline:
    """DVC's stages as its files have them now. DVC takes half a second to read its lock file: here they are read again
    only where they are others."""

    def __init__(self) -> None:
        self._read = self._written()
        self._repo = Repo()
        self._stages: dict[str, Any] = {}

    def to(self, targets: list[str]) -> list[tuple[Any, tuple[str, ...]]]:
        """The targets and all they depend on, each with its parents' addresses and after them."""
        found = in_order(self._repo, targets)
        self._stages = {str(stage.addressing): stage for stage, _ in found}
        return found

    def stage(self, address: str) -> Any:
        """DVC's own object: to be read, not to be changed."""
        if (now := self._written()) != self._read:
            self._read, self._repo, self._stages = now, Repo(), {}
        if address not in self._stages:
            self._stages[address] = self._repo.stage.load_one(*path_and_name(address))
        return self._stages[address]

    @staticmethod
    def _written() -> list[tuple[int, int, int] | None]:
        """When the files that stages are read from were written, as far as the file system tells."""
        found: list[tuple[int, int, int] | None] = []
        for file in (PIPELINE, LOCK, DATA_POINTER, CURRICULA):
            try:
                status = file.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return found


@dataclass(frozen=True)
class DvcStage:
    """A stage as DVC addresses it (`policy@lenient`, `data.dvc`) and the stages that it depends on."""

    address: str
    parents: tuple[str, ...]
    description: str
    pipeline: Pipeline

    @property
    def policy(self) -> str:
        """What the stage is about: `lenient` of policy@lenient; else the stage itself."""
        name, _, policy = self.address.partition("@")
        return policy or ("base" if name == "pretrain" else name)


def graph_to(targets: list[str]) -> list[DvcStage]:
    """The targets and all they depend on, parents first, as DVC's graph has them. Raises UserError."""
    with dvc_errors_in_words("DVC cannot read the pipeline"):
        pipeline = Pipeline()
        return [
            DvcStage(str(stage.addressing), parents, stage.desc or "", pipeline)
            for stage, parents in pipeline.to(targets)
        ]


def bring_up_to_date(stage: DvcStage) -> Task[[], State]:
    """The Prefect task for a stage: named after it, its version the hash of what it is made from. Raises UserError.

    It has no tags: for each Prefect asks its server whether their number is limited, and where that keeps its own notes
    at the same moment (SQLite), the task waits for two seconds and asks again.
    """

    def run() -> State:
        try:
            changed = _changed(stage)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return Failed(message=str(error))
        if not changed:
            return Completed(name="Skipped", message="DVC finds this stage unchanged")
        print(f"── {stage.address}", flush=True)
        begun = time.monotonic()
        command = [sys.executable, "-m", "tasks.repro", stage.address]
        if served():
            with Lines(stage.policy, lambda: reached(progress_file(stage.policy))) as lines:
                code = tree.run(command, stage_environment(), lines)
            last = "\n".join(line for line in lines.last if line.strip())
        else:
            code, last = tree.run(command, stage_environment()), "its message stands above"
        if code:
            name = PASSING_STATE if code in (PASSING, -signal.SIGKILL) else None
            return Failed(name=name, message=f"stage {stage.address} failed (exit code {code}): {last}")
        _took(stage.address, time.monotonic() - begun)
        return Completed(message="brought up to date")

    return Task(
        run,
        name=stage.address,
        task_run_name=stage.address,
        description=stage.description,
        version=_version(stage),
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(SECONDS_TO_RETRY),
        retry_delay_seconds=list(SECONDS_TO_RETRY),
        retry_condition_fn=lambda task, run, state: state.name == PASSING_STATE,
    )


def _took(address: str, seconds: float) -> None:
    """For `upaya plan`. A stage that was resumed took longer in all."""
    with contextlib.suppress(UserError, OSError):  # nobody needs it: what could be built is built
        write_json(TIMES, {**stage_seconds(), address: round(seconds, 1)})


def stage_environment() -> dict[str, str]:
    """The environment of a stage: without Prefect's run context, with telemetry off and errors unhidden."""
    quiet = {"DO_NOT_TRACK": "true", "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {key: value for key, value in os.environ.items() if not key.startswith("PREFECT__")} | quiet


def _changed(asked: DvcStage) -> bool:
    with dvc_errors_in_words(f"DVC cannot say whether {asked.address} is current"):
        stage = asked.pipeline.stage(asked.address)
        with stage.repo.lock:
            return bool(stage.status(check_updates=True))


def _version(asked: DvcStage) -> str:
    """A hash of the stage's command, dependencies and parameters as they are now."""
    with dvc_errors_in_words(f"DVC cannot read what {asked.address} is made from"):
        stage = copy.copy(asked.pipeline.stage(asked.address))
        stage.deps = [copy.copy(dependency) for dependency in stage.deps]  # which are about to change
        with stage.repo.lock:
            stage.save_deps(allow_missing=True)
    lock = to_single_stage_lockfile(stage) if stage.is_data_source is False else stage.dumpd()
    made_from = {key: lock[key] for key in ("cmd", "deps", "params") if key in lock}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()[:16]

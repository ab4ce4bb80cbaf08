"""DVC's graph as Prefect tasks: one task brings one DVC stage up to date.

DVC decides what is current. Nothing here lists stages, and Prefect's own result cache is off. A stage runs in a process
of its own, `python -m tasks.repro ADDRESS`.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage.serialize import to_single_stage_lockfile
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from upaya.errors import UserError


@dataclass(frozen=True)
class DvcStage:
    """A stage as DVC addresses it (`policy@lenient`, `data.dvc`) and the stages that it depends on."""

    address: str
    parents: tuple[str, ...]


def graph_to(targets: list[str]) -> list[DvcStage]:
    """The targets and all they depend on, parents first, as DVC's graph has them. Raises UserError."""
    try:
        repo = Repo()
        graph = repo.index.graph
        wanted = {stage for target in targets for stage in repo.stage.collect(target, with_deps=True)}
    except DvcException as error:
        raise UserError(f"DVC cannot read the pipeline: {error}") from None
    stages: list[DvcStage] = []
    done: set[str] = set()

    def visit(stage: object) -> None:
        address = str(stage.addressing)  # type: ignore[attr-defined]
        if address in done:
            return
        done.add(address)
        parents = sorted(graph.successors(stage), key=lambda parent: str(parent.addressing))
        for parent in parents:
            visit(parent)
        stages.append(DvcStage(address, tuple(str(parent.addressing) for parent in parents)))

    for stage in sorted(wanted, key=lambda stage: str(stage.addressing)):
        visit(stage)
    return stages


def bring_up_to_date(stage: DvcStage) -> Task[[], State]:
    """The Prefect task for a stage: named after it, its version the hash of what the stage is made from."""

    def run() -> State:
        if not _changed(stage.address):
            return Completed(name="Skipped", message="DVC finds this stage unchanged")
        print(f"── {stage.address}", flush=True)
        command = [sys.executable, "-m", "tasks.repro", stage.address]
        code = subprocess.run(command, check=False, env=stage_environment()).returncode
        if code:
            return Failed(message=f"stage {stage.address} failed; its message stands above (exit code {code})")
        return Completed(message="brought up to date")

    return Task(run, name=stage.address, version=_version(stage.address), cache_policy=NO_CACHE, persist_result=False)


def stage_environment() -> dict[str, str]:
    """The environment of a stage: without Prefect's run context, with telemetry off and errors unhidden."""
    quiet = {"DO_NOT_TRACK": "true", "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {key: value for key, value in os.environ.items() if not key.startswith("PREFECT__")} | quiet


def _changed(address: str) -> bool:
    return bool(Repo().status(targets=[address]))


def _version(address: str) -> str:
    """A hash of the stage's command, dependencies and parameters as they are now."""
    repo = Repo()
    stage = repo.stage.load_one(*_path_and_name(address))
    with repo.lock:
        stage.save_deps(allow_missing=True)
    lock = to_single_stage_lockfile(stage) if stage.is_data_source is False else stage.dumpd()
    made_from = {key: lock[key] for key in ("cmd", "deps", "params") if key in lock}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _path_and_name(address: str) -> tuple[str, str | None]:
    return (address, None) if address.endswith(".dvc") else ("dvc.yaml", address)

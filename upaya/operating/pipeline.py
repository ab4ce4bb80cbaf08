"""What DVC says of the pipeline: which stages are current, and why the others are not."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo

from upaya.declared.curricula import Curricula
from upaya.errors import UserError
from upaya.paths import DATA_POINTER
from upaya.records.pointer import pointer

NOT_BUILT = "not built yet"


@dataclass(frozen=True)
class StageNow:
    """A stage of dvc.yaml as it is.

    Attributes:
        why: what changed since it last ran, in words; empty where it is current.
        after: stages below it that are not current: what they make may change what this one depends on.
    """

    address: str
    why: list[str]
    after: list[str]

    @property
    def is_current(self) -> bool:
        return not self.why and not self.after


def targets_of(policy: str, curricula: Curricula) -> list[str]:
    """The stages that a policy is built by: evaluations of its line, its page. Raises UserError for an unknown one."""
    evaluations = [evaluation(name) for name in curricula.ancestry(policy)]
    return [*evaluations, f"page@{policy}"] if policy in curricula.policies else evaluations


def evaluation(policy: str) -> str:
    """The stage that evaluates a policy."""
    return f"evaluate-start@{policy}" if policy in ("base", "warmup") else f"evaluate@{policy}"


def stages(targets: Iterable[str] | None = None) -> list[StageNow]:
    """The stages of a policy's line (targets as DVC names them), or all, parents first. Raises UserError."""
    if os.path.lexists(DATA_POINTER):
        pointer()
    with dvc_errors_in_words("DVC cannot say what is current"):
        repo = Repo()
        found: dict[str, StageNow] = {}
        with repo.lock:
            for stage, parents in in_order(repo, targets):
                after = [parent for parent in parents if not found[parent].is_current]
                address = str(stage.addressing)
                found[address] = StageNow(address, _why(stage), after)
        return list(found.values())


def in_order(repo: Repo, targets: Iterable[str] | None = None) -> list[tuple[Any, tuple[str, ...]]]:
    """The targets and all that they depend on, or every stage: each with its parents' addresses and after them, as
    DVC's graph has them; the same order every time."""
    graph = repo.index.graph
    wanted = set(graph.nodes)
    if targets is not None:
        known = {_address(stage): stage for stage in graph.nodes}
        # DVC has the words for what there is none of; asked for a stage that there is, it reads all files anew.
        wanted = {
            stage
            for target in targets
            for stage in ([known[target]] if target in known else repo.stage.collect(target))
        }
    ordered: dict[Any, tuple[str, ...]] = {}

    def visit(stage: Any) -> None:
        if stage not in ordered:
            parents = sorted(graph.successors(stage), key=_address)
            for parent in parents:
                visit(parent)
            ordered[stage] = tuple(map(_address, parents))

    for stage in sorted(wanted, key=_address):
        visit(stage)
    return list(ordered.items())


def _address(stage: Any) -> str:
    return str(stage.addressing)


@contextlib.contextmanager
def dvc_errors_in_words(what: str) -> Iterator[None]:
    """DVC's errors as UserError. Args: what: cannot be done."""
    try:
        yield
    except DvcException as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise UserError(f"{what}: {error}{cause}") from None


def _why(stage: Any) -> list[str]:
    if stage.is_data_source:
        return [NOT_BUILT] if any(not out.exists for out in stage.outs) else []
    if not stage.is_callback and not any(out.hash_info for out in stage.outs):
        return [NOT_BUILT]
    said: list[str] = []
    if stage.changed_stage():
        said.append("its command or list of outputs")
    for dependency in stage.deps:
        if isinstance(dependency, ParamsDependency):
            said += _keys(dependency)
        elif status := dependency.status():
            said += [f"{path}: {what}" for path, what in status.items()]
    for out in stage.outs:
        said += [f"{path}: {what}" for path, what in out.status().items()]
    return said


def _keys(dependency: Any) -> list[str]:
    """Keys of a file under params/ whose values differ: old → new."""
    old: dict[str, Any] = dependency.hash_info.value or {}
    new: dict[str, Any] = dependency.read_params() if Path(str(dependency)).is_file() else {}
    said = []
    for key in sorted({*old, *new}):
        for path, before, now in _differing(key, old.get(key, _ABSENT), new.get(key, _ABSENT)):
            said.append(f"{dependency}: {path}: {before} → {now}")
    return said


_ABSENT = "–"


def _differing(key: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            each
            for part in sorted({*old, *new}, key=str)
            for each in _differing(f"{key}.{part}", old.get(part, _ABSENT), new.get(part, _ABSENT))
        ]
    return [] if old == new else [(key, old, new)]

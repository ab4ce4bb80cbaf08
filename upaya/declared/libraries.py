"""params/libraries.yaml: the versions of the libraries that make the numbers.

dvc.yaml names for each stage those that it uses, so that another version of one of them makes just these stages stale.
What is installed has to be what is declared: a result is never made by a version that DVC does not know of.
"""

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from upaya.declared.validation import load_yaml, read_yaml
from upaya.errors import UserError
from upaya.paths import LIBRARIES, PIPELINE


def libraries_of(stage: str, pipeline: Path = PIPELINE) -> list[str]:
    """The libraries that a stage of dvc.yaml depends on, by the name of its program."""
    used: set[str] = set()
    for declared in read_yaml(pipeline)["stages"].values():
        definition = declared.get("do", declared)
        words = definition["cmd"].split()
        if words[words.index("tasks/run") + 1] == stage:
            named = [params[str(LIBRARIES)] for params in definition.get("params", []) if str(LIBRARIES) in params]
            used |= {name for names in named for name in names}
    return sorted(used)


def need_installed(stage: str, path: Path = LIBRARIES) -> None:
    """Raises UserError where a library that a stage uses is installed in another version than declared."""
    declared = load_yaml(path, dict[str, str])
    _need(libraries_of(stage), declared, path)


def _need(names: Iterable[str], declared: dict[str, str], path: Path) -> None:
    for name in names:
        if name not in declared:
            raise UserError(f"{path}: key {name!r} is missing; dvc.yaml names it")
        try:
            installed = importlib.metadata.version(name).split("+")[0]  # 2.13.0+cpu is the same release
        except importlib.metadata.PackageNotFoundError:
            raise UserError(f"{name} is not installed; `make setup` installs what requirements.lock pins") from None
        if installed != declared[name]:
            raise UserError(
                f"{path}: key {name!r} is {declared[name]}, installed is {installed}. `make setup` installs what "
                f"requirements.lock pins; to go on with {installed}, write it here: DVC then makes the results of the "
                "other version anew."
            )

"""What differs from the declared runs as a DVC experiment, in a copy of the checkout: a seed, other parameters.

The checkout stays as it is. An experiment stands in `dvc exp show` and in MLflow under its name, and `dvc exp apply
NAME` takes it over.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dvc.api
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from tasks import tree
from tasks.dvc import stage_environment
from tasks.experiment import experiment_work, furthest, untracked
from tasks.prefect_ui import Lines, served
from upaya.declared.curricula import Curricula
from upaya.declared.regimes import RegimesFile
from upaya.declared.validation import Declared, read_yaml, validated
from upaya.errors import UserError
from upaya.files import fingerprint, remove_folder
from upaya.paths import CURRICULA, EXPERIMENTS, REGIMES

# What is changed in these is validated before anything runs.
MODELS: dict[Path, type[Declared]] = {CURRICULA: Curricula, REGIMES: RegimesFile}


def experiment(name: str, changes: Sequence[str], targets: Sequence[str]) -> Task[[], State]:
    """The Prefect task that builds stages with changed parameters, in a temporary copy of the checkout.

    Args:
        name: of the experiment; one of this name is replaced.
        changes: FILE:KEY=VALUE, as `dvc exp run --set-param` takes them.
    """

    def run() -> State:
        command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--force", "--name", name]
        for change in changes:
            command += ["--set-param", change]
        if served():
            with Lines(name, lambda: furthest(name)) as lines:
                code = tree.run([*command, *targets], stage_environment(), lines)
        else:
            code = tree.run([*command, *targets], stage_environment())
        if code:
            return Failed(message=f"{name} failed; its message stands above (exit code {code})")
        remove_folder(experiment_work(name), within=EXPERIMENTS)
        return Completed(message=f"experiment {name}")

    return Task(
        run,
        name="experiment",
        task_run_name=name,
        description=f"{', '.join(targets)} with {', '.join(changes)}",
        cache_policy=NO_CACHE,
        persist_result=False,
    )


def named(policy: str, seed: int | None, overrides: Mapping[str, Any]) -> str:
    """What the experiment of a policy is called: after its seed, and a hash of what else differs."""
    own = [f"seed-{seed}"] if seed is not None else []
    return "-".join([policy, *own, *([fingerprint(overrides)[:6]] if overrides else [])])


def need_tracked() -> None:
    """Raises UserError for files that git does not know: an experiment works in a copy of what it knows. And for a path
    that DVC's experiments end on."""
    if not str(Path.cwd()).isascii():
        raise UserError(
            f"DVC's experiments fail in a folder whose path has other letters than ASCII ({Path.cwd()}): move the "
            "checkout for them. All else works where it is."
        )
    if files := untracked(Path()):
        raise UserError(f"git does not know {', '.join(files)}: an experiment would do without; `git add` first")


def changes(seed: int | None, overrides: Mapping[str, Any]) -> list[str]:
    """The changes as DVC takes them. Raises UserError for a key that there is not, or a value that it cannot have.

    Args:
        overrides: KEY of params/curricula.yaml, or FILE:KEY → value.
    """
    wanted = ({f"{CURRICULA}:seed": seed} if seed is not None else {}) | {
        key if ":" in key else f"{CURRICULA}:{key}": value for key, value in overrides.items()
    }
    return [change for key, value in wanted.items() for change in everywhere(f"{key}={hydra(value)}")]


def hydra(value: Any) -> str:
    """A value in Hydra's override grammar, which DVC reads."""
    match value:
        case dict():
            return "{" + ",".join(f"{key}:{hydra(part)}" for key, part in value.items()) + "}"
        case list():
            return "[" + ",".join(hydra(part) for part in value) + "]"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case str() if not re.fullmatch(r"[A-Za-z_][\w./@-]*", value):
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)


def everywhere(setting: str) -> Iterator[str]:
    """The change itself, and the same for every other place that holds the same node by a YAML alias: an anchor that
    stands for a regime in several places means one regime. Raises UserError."""
    file, colon, change = setting.partition(":")
    key, equals, value = change.partition("=")
    path = Path(file)
    if not (colon and equals and key) or not path.is_file():
        raise UserError(f"{setting}: expected FILE:KEY=VALUE, as in {CURRICULA}:grpo.group_size=16")
    *inner, last = key.split(".")
    node = content = read_yaml(path)
    for part in inner:
        node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise UserError(f"{setting}: {path} has no key {key!r}")
    places = _places(content, node)  # YAML's aliases of a node are one object
    if path in MODELS:
        node[last] = value_of(setting, value)
        validated(MODELS[path], content, f"{path} with {key}={value}")
    for place in places:
        yield f"{path}:++{'.'.join([*place, last])}={value}"  # ++: also where a default is meant so far


def value_of(setting: str, text: str) -> Any:
    """A value of Hydra's grammar, as DVC will write it. Raises UserError."""
    try:
        return OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException as error:
        raise UserError(f"{setting}: {text!r} is no value: {error}") from None


def read(path: Path, name: str) -> Any:
    """The text of an output of an experiment."""
    return dvc.api.read(str(path), rev=name)


def _places(content: Any, node: Any) -> list[list[str]]:
    """The keys that lead to a node, for each place where it stands."""
    if content is node:
        return [[]]
    if isinstance(content, dict):
        children = [(str(key), child) for key, child in content.items()]
    elif isinstance(content, list):
        children = [(str(place), child) for place, child in enumerate(content)]
    else:
        return []
    return [[key, *rest] for key, child in children for rest in _places(child, node)]

"""`upaya doctor`: is this machine and this checkout fit for work? Each problem with its cure."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from upaya.declared.curricula import load_curricula
from upaya.errors import UserError, in_words
from upaya.paths import CURRICULA
from upaya.rewards.regimes import load_regimes
from upaya.terminal import console
from upaya.tracking.store import Store, shown_uri, tracking_uri
from upaya.tracking.tracker import reason

REQUIREMENTS = Path("requirements.lock")
GB = 1e9
LEAST_MEMORY, LEAST_DISK = 4 * GB, 3 * GB  # of the default curriculum in two threads; its outputs and caches


@dataclass(frozen=True)
class Finding:
    """Attributes: cure: what to do; empty where all is well."""

    what: str
    cure: str = ""


def show() -> bool:
    """Print what was found; whether all is well."""
    found = [finding for look in LOOKS for finding in _safely(look)]
    for finding in found:
        console.print(f"{'!!' if finding.cure else 'ok'}  {finding.what}", markup=False)
        if finding.cure:
            console.print(f"      {finding.cure}", markup=False)
    return not any(finding.cure for finding in found)


def _safely(look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except (UserError, OSError) as error:
        said = in_words(error)
        if said is None:
            raise
        what = said[0].removeprefix("error: ")
        return [Finding(f"{look.__name__.strip('_')}: {what}", "mend what the message names")]


def _versions() -> list[Finding]:
    wrong = []
    for line in REQUIREMENTS.read_text().splitlines() if REQUIREMENTS.is_file() else []:
        match = re.match(r"([A-Za-z0-9_.-]+)==([^\s;]+)", line)
        if not match or ";" in line:  # a marker: wanted on some machines only
            continue
        try:
            there = importlib.metadata.version(match[1])
        except importlib.metadata.PackageNotFoundError:
            there = "not installed"
        if there.partition("+")[0] != match[2]:  # torch's builds: 2.13.0+cpu
            wrong.append(f"{match[1]} {there} (locked: {match[2]})")
    if wrong:
        return [
            Finding(f"packages differ from {REQUIREMENTS}: {', '.join(wrong)}", "`make setup` installs what is locked")
        ]
    return [Finding(f"packages are those of {REQUIREMENTS}")]


def _machine() -> list[Finding]:
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(".")
    cores = len(os.sched_getaffinity(0))
    gpus = shutil.which("nvidia-smi")
    load, _, _ = psutil.getloadavg()
    return [
        Finding(f"{cores} cores{', NVIDIA GPUs: `nvidia-smi`' if gpus else ', no NVIDIA GPU'}"),
        Finding(
            f"load: {load:.1f} on {cores} cores",
            # OpenMP's threads wait for each other by spinning: 0.6 steps/s in place of 18 were measured.
            ""
            if load < cores / 2
            else "others are at work: threads that share their cores with them may be ten times as slow; wait, or "
            f"declare one thread in {CURRICULA}, numerics: {{threads: 1}}, which makes other bytes",
        ),
        Finding(
            f"memory: {memory.available / GB:.1f} of {memory.total / GB:.1f} GB available",
            ""
            if memory.available > LEAST_MEMORY
            else f"the default curriculum wants {LEAST_MEMORY / GB:.0f} GB: end something",
        ),
        Finding(
            f"disk: {disk.free / GB:.1f} GB free",
            ""
            if disk.free > LEAST_DISK
            else f"{LEAST_DISK / GB:.0f} GB are wanted; `dvc gc -w` removes outputs of old runs",
        ),
    ]


def _declared() -> list[Finding]:
    curricula = load_curricula(load_regimes())
    return [
        Finding(
            f"params/ are whole: {len(curricula.policies)} policies, model {curricula.model}, seed {curricula.seed}"
        )
    ]


def _git() -> list[Finding]:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    if not git("rev-parse", "HEAD"):
        return [Finding("git: no commit here", "DVC's experiments need one: `git init`, `git add`, `git commit`")]
    found = [Finding(f"git: on {git('rev-parse', '--short', 'HEAD')}")]
    if not git("config", "user.email"):
        found.append(Finding("git: no user.email", "DVC's experiments commit: `git config user.email you@example.org`"))
    if "dvc.lock" in git("status", "--porcelain", "--", "dvc.lock"):
        found.append(
            Finding(
                "dvc.lock differs from its commit", "`dvc metrics diff` compares with HEAD: commit dvc.lock to keep it"
            )
        )
    return found


def _dvc() -> list[Finding]:
    found = []
    for file in (Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/exps/rwlock")):
        if not file.is_file():
            continue
        try:
            json.loads(file.read_text())
        except ValueError:
            found.append(
                Finding(f"{file} is in pieces: a DVC was killed while it wrote it", f"rm {file}; a flow does so itself")
            )
    return found or [Finding("DVC's lock files are whole")]


def _servers() -> list[Finding]:
    found = []
    try:
        Store()
        found.append(Finding(f"MLflow: {shown_uri()} answers{of_another_version()}"))
    except Exception as error:  # whatever a store can raise
        found.append(Finding(f"MLflow: {shown_uri()} does not answer ({reason(error)})", _of_store()))
    from prefect.settings import get_current_settings

    address = get_current_settings().api.url
    if not address:
        found.append(Finding("Prefect: no server is named, a flow starts one for itself"))
        return found
    try:
        httpx.get(f"{address}/health", timeout=5).raise_for_status()
        found.append(Finding(f"Prefect: {address} answers"))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        cure = "`prefect server start`, or `prefect config unset PREFECT_API_URL`"
        found.append(Finding(f"Prefect: {address} does not answer ({type(error).__name__})", cure))
    return found


def of_another_version() -> str:
    """A server says its version; a file is of the version here."""
    if not tracking_uri().startswith("http"):
        return ""
    here = importlib.metadata.version("mlflow")
    theirs = httpx.get(f"{tracking_uri().rstrip('/')}/version", timeout=5).text.strip()
    return "" if theirs == here else f"; it is of version {theirs}, this is {here}"


def _of_store() -> str:
    if tracking_uri().startswith("http"):
        return (
            "start it, or unset MLFLOW_TRACKING_URI; training goes on without, and `upaya track` sends what was missed"
        )
    return "training goes on without; move the file away, and `upaya track` fills a new one"


def _switches() -> list[Finding]:
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
    return [Finding(f"{', '.join(offline)} set: models are taken from the cache alone")] if offline else []


LOOKS = (_versions, _machine, _declared, _git, _dvc, _servers, _switches)

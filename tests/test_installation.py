"""What setup relies on: locks that any index serves, one installed package, a word where no Python is suitable."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from setuptools import find_namespace_packages, find_packages

LOCK = ROOT / "requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(path: Path) -> dict[str, str]:
    """The versions in a lock by package, under the package's name as an index normalises it."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    pins = [line.partition(";")[0].strip().partition("==") for line in lines]
    return {normalised(name): version for name, _, version in pins}


def normalised(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


@pytest.mark.parametrize("path", [LOCK, ROOT / "bench/trl/requirements.txt"], ids=lambda path: path.name)
def test_every_pin_is_an_exact_version_that_a_public_index_has(path: Path) -> None:
    assert {name: version for name, version in pinned(path).items() if not re.fullmatch(r"[\w.]+", version)} == {}


def test_every_direct_dependency_stands_in_the_lock() -> None:
    direct = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
    pins = pinned(LOCK)
    assert {requirement for requirement in direct if normalised(requirement) not in pins} == set()
    exact = {normalised(r): r.partition("==")[2] for r in direct if "==" in r}
    assert {name: pins[name] for name in exact} == exact


@pytest.mark.parametrize("python", ["3.11.0", "3.11.9", "3.12.0", "3.13.0"])
def test_the_lock_holds_what_the_locked_packages_need_under_every_python(python: str) -> None:
    """The lock is made with one Python; what others need besides stands in it with a marker."""
    environment = {"python_full_version": python, "python_version": python.rpartition(".")[0], "extra": ""}
    lines = [Requirement(line) for line in LOCK.read_text().splitlines() if line]
    pins = {normalised(line.name) for line in lines if not line.marker or line.marker.evaluate(environment)}
    installed = {normalised(each.metadata["Name"]): each for each in importlib.metadata.distributions()}
    asked = [(name, Requirement(text)) for name in pins if name in installed for text in installed[name].requires or []]
    missing = {
        f"{requirement} (of {name})"
        for name, requirement in asked
        if (not requirement.marker or requirement.marker.evaluate(environment))
        and normalised(requirement.name) not in pins | {"setuptools", "pip"}
    }
    assert not missing


def test_only_upaya_is_installed() -> None:
    include = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    found = find_namespace_packages(str(ROOT), include=include)
    assert {name.partition(".")[0] for name in found} == {"upaya"}
    assert {name for name in find_packages(str(ROOT)) if name.startswith("upaya")} <= set(found)


def make(folder: Path, *words: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(LOCK, folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    mine = {key: value for key, value in os.environ.items() if key not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", "setup", *words], cwd=folder, env=mine | {"PATH": path}, capture_output=True, text=True
    )


def interpreter(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("script", ["echo 'no such version' >&2; exit 127", "exit 1"])
def test_an_unsuitable_python_is_refused_in_one_line(tmp_path: Path, script: str) -> None:
    named = interpreter(tmp_path / "bin", "python3.9", script)
    found = make(tmp_path, f"PYTHON={named}")
    assert found.returncode
    said = found.stderr.splitlines()[0]
    assert "Python 3.11, 3.12 or 3.13" in said and str(named) in said and "make PYTHON=/path/to/python3.11" in said
    assert not (tmp_path / ".venv").exists()


def test_the_first_python_that_runs_makes_the_environment_and_a_half_made_one_goes(tmp_path: Path) -> None:
    """An interpreter that stands on the path and does not run, as pyenv's do, is passed over."""
    path = tmp_path / "bin"
    interpreter(path, "python3.11", "exit 127")
    # It says what it was asked for, and makes an environment in which every installation fails: that is far enough.
    interpreter(path, "python3.12", '[ "$2" = venv ] && echo "made $3"; exit 0')
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/half").touch()
    found = make(tmp_path, path=f"{path}{os.pathsep}{os.environ['PATH']}")
    assert "made .venv" in found.stdout and found.returncode, found.stdout + found.stderr
    assert not (tmp_path / ".venv/half").exists() and not (tmp_path / ".venv/ready").exists()

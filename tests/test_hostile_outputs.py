"""Outputs and models damaged under whole commands, and file systems that do not take what is written."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run

from upaya.errors import UserError
from upaya.records.pointer import pointer

MOUNTS = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
needs_mounts = pytest.mark.skipif(not MOUNTS, reason="mounts are made by root alone, with `unshare -m`")
STAGE = "arm@lenient-strict"


def mounted(project: Path, mount: str, *command: str) -> subprocess.CompletedProcess[str]:
    """A command that sees a mount which nobody else does."""
    return run("unshare", "-m", "sh", "-ec", f'{mount}; exec "$@"', "sh", *command, cwd=project, check=False)


def test_damaged_outputs_are_answered(project: Path) -> None:
    """The quick part of `python -m bench.hostile_outputs`: the same cases each time."""
    cases = ("--cases", "60", "--seed", "7", "--seconds", "240")
    found = run(sys.executable, "-m", "bench.hostile_outputs", "--built", str(project), *cases, cwd=ROOT, check=False)
    assert found.returncode == 0 and "60 cases, seed 7" in found.stdout, found.stdout + found.stderr


@needs_mounts
def test_what_a_full_cache_does_not_take_is_not_made_again(project: Path) -> None:
    made = project / "reports/arms/lenient-strict.json"
    before = made.read_bytes()
    made.unlink()
    repro = (sys.executable, "-m", "tasks.repro", STAGE)
    full = mounted(project, "mount -t tmpfs -o size=8k small .dvc/cache", *repro)
    said = " ".join(full.stderr.split())
    assert full.returncode == 1 and f"error: {STAGE} is done, and what it made is whole" in said, said
    assert "No space left on device" in said and "Traceback" not in said and made.read_bytes() == before

    (project / "tasks/run").unlink()  # by which a stage is started
    mount = "mount -t tmpfs -o size=64m large .dvc/cache"
    again = mounted(project, mount, "sh", "-ec", '"$@" && find .dvc/cache -type f', "sh", *repro)
    assert again.returncode == 0 and ".dvc/cache/files/md5/" in again.stdout, again.stderr
    run("dvc", "commit", "--force", STAGE, cwd=project)
    made.write_text("{}")
    assert run(*repro, cwd=project, check=False).returncode == 1  # what is not as it was made is made again


@needs_mounts
@pytest.mark.parametrize(
    ("folder", "command", "message"),
    [
        ("results", ("tasks/run", "evaluate", "lenient-strict"), "results/lenient-strict cannot be written or read"),
        ("policies", ("tasks/run", "grpo", "lenient-strict"), "policies cannot be written or read here"),
        ("reports", ("tasks/run", "page", "lenient-strict"), "cannot be written or read here: Read-only file system"),
    ],
)
def test_a_folder_that_is_mounted_read_only_is_named(
    project: Path, folder: str, command: tuple[str, ...], message: str
) -> None:
    mount = f"mount --bind {folder} {folder}; mount -o remount,ro,bind {folder}"
    found = mounted(project, mount, *command)
    said = " ".join(found.stderr.split())
    assert found.returncode == 1 and said.count("error:") == 1 and message in said and "Traceback" not in said, said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("outs:\n- md5: x\n", "key 'outs.0.path'"),
        ("deps: []\nouts:\n- path: data\n", "key 'deps'"),
        ("deps: corpus\n", "key 'deps'"),
        ("- 1\n", "data.dvc"),
        ("deps: [\n", "data.dvc, line 2: not valid YAML"),
    ],
)
def test_a_damaged_pointer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.dvc").write_text(text)
    with pytest.raises(UserError, match=message):
        pointer()
    Path("data.dvc").unlink()
    with pytest.raises(UserError, match=r"data\.dvc"):
        pointer()

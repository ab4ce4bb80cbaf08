"""Training stages as they are launched: in several processes, stopped, failing, and refused where they cannot be."""

import contextlib
import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import LONG, activated, edit, run
from forked import Forked

from tasks.__main__ import main
from tasks.launch import hosts, say_why
from upaya.errors import UserError, shown_to_user

DEEPSPEEDS_PORT = 29500  # its launcher's default, which others who use it take


def launched(project: Path, **launch: object) -> None:
    """Declare a launch and choose it."""
    (project / "params/launch/chosen.yaml").write_text(yaml.safe_dump(launch or {"processes": 1}))
    edit(project / "params/curricula.yaml", "launch", value="chosen")


def begun(project: Path, log: Path, **launch: object) -> subprocess.Popen[str]:
    """The lenient stage, started and in its first steps, which are not step 1 where it goes on from a checkpoint."""
    launched(project, **launch)
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks", "grpo", "lenient"],
            cwd=project, env=activated(), stdout=out, stderr=out, text=True,
        )  # fmt: skip
    until = time.monotonic() + LONG
    while not re.search(r"(?<!resumed at )step \d+/", log.read_text()):
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    return process


def workers(project: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project) and "grpo" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def gone(project: Path, seconds: float = LONG) -> bool:
    until = time.monotonic() + seconds
    while workers(project) and time.monotonic() < until:
        time.sleep(0.1)
    return not workers(project)


def test_sigterm_reaches_all_and_another_number_of_processes_goes_on(project: Path, tmp_path: Path) -> None:
    edit(project / "params/curricula.yaml", "policies", "lenient", "max_steps", value=2000)
    edit(project / "params/curricula.yaml", "grpo", "budget", value=2000)
    log = tmp_path / "log"
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # it is taken already: all the better
            other.bind(("127.0.0.1", DEEPSPEEDS_PORT))
            other.listen()
        process = begun(project, log, processes=2, zero=3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG) == 143, log.read_text()
    said = log.read_text()
    assert said.count("stopped by SIGTERM; lenient is saved at step") == 1
    assert gone(project)
    step = int(said.split("saved at step ")[1].split(".")[0])
    # The stage that is killed ends its processes. The rest in one process.
    process = begun(project, log, processes=2, zero=1)
    process.kill()
    assert gone(project)
    checkpoints = project / ".upaya/work/lenient/checkpoints"
    last = max(int(path.stem.split("-")[1]) for path in checkpoints.glob("*.json"))
    assert last >= step
    launched(project)
    alone = Forked(project, "grpo", "lenient")
    while f"resumed at step {last}/" not in alone.said() and not alone.ended():
        time.sleep(0.1)
    alone.terminate()
    assert alone.wait(LONG) == 143
    assert int(alone.said().split("saved at step ")[1].split(".")[0]) > last


def test_one_process_that_fails_ends_the_stage_with_its_own_error(project: Path, tmp_path: Path) -> None:
    (project / "components/faulty.py").write_text(
        "import os\n\n\ndef faulty(completion, question):\n"
        "    if os.environ.get('RANK') == '1':\n        raise ZeroDivisionError('of the second only')\n    return 0.0\n"
    )
    other = {"components": {"exact": {"weight": 1}, "components.faulty.faulty": {"weight": 0.1}}}
    edit(project / "params/regimes.yaml", "regimes", "other", value=other)
    launched(project, processes=2, zero=2)
    found = run(sys.executable, "-m", "tasks", "grpo", "lenient", cwd=project, check=False)
    assert found.returncode == 1
    said = found.stdout + found.stderr
    assert said.count("ZeroDivisionError: of the second only") == 1 and "Traceback" not in said
    assert gone(project)
    assert (project / "policies/lenient/model.safetensors").is_file()  # the former outputs


def test_the_first_error_is_shown_and_a_process_that_was_killed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(rank: int, at: float, message: str, known: bool) -> None:
        error = {"rank": rank, "at": at, "message": message, "known": known, "code": 1}
        (tmp_path / f"{rank}.json").write_text(json.dumps(error))

    assert say_why(1, tmp_path, 3) == 1
    assert "one of 3 processes ended without a word" in capsys.readouterr().err
    told(0, 2.0, "RuntimeError: Connection closed by peer", known=False)
    told(2, 3.0, "RuntimeError: Connection closed by peer", known=False)
    assert say_why(1, tmp_path, 3) == 1
    assert "process 2 of 3 ended without a word" in capsys.readouterr().err
    told(1, 1.0, "error: no disk space left", known=True)
    assert say_why(1, tmp_path, 3) == 1
    assert capsys.readouterr().err == "error: no disk space left\n"


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        ({"processes": 9, "zero": 1}, "key 'grpo.prompts': 9 processes cannot share out 8"),
        ({"processes": 8, "zero": 1}, "key 'launch.processes': 8 processes, but this machine has"),
        ({"processes": 2, "zero": 4}, "chosen.yaml: key 'zero'"),
        ({"proceses": 2}, "did you mean 'processes'?"),
        ("two-proceses", "did you mean 'two-processes'?"),
        ({"processes": 2, "hostfile": "none"}, "key 'launch.hostfile': no file none"),
        ({"processes": 3, "hostfile": "two"}, "3 processes, but two has 2 slots"),
    ],
)
def test_a_launch_that_cannot_be(
    unbuilt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], launch: object, message: str
) -> None:
    if isinstance(launch, dict):
        launched(unbuilt, **launch)
    else:
        edit(unbuilt / "params/curricula.yaml", "launch", value=launch)
    (unbuilt / "two").write_text("a slots=1\nb slots=1\n")
    monkeypatch.chdir(unbuilt)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    with pytest.raises(SystemExit) as ended, shown_to_user():
        main(["grpo", "lenient"])
    said = " ".join("".join(capsys.readouterr()).split())
    assert ended.value.code == 1 and message in said, said


def test_zero_without_deepspeed(
    unbuilt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = importlib.metadata.version

    def missing(name: str) -> str:
        if name == "deepspeed":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    launched(unbuilt, processes=2, zero=1)
    monkeypatch.chdir(unbuilt)
    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(SystemExit), shown_to_user():
        main(["grpo", "lenient"])
    assert "deepspeed is not installed; `make setup`" in " ".join("".join(capsys.readouterr()).split())


@pytest.mark.parametrize("line", ["a", "a slots=x", "a slots=1\na slots=2"])
def test_a_hostfile_that_says_nothing(tmp_path: Path, line: str) -> None:
    (tmp_path / "hosts").write_text(f"# ours\n{line}\n")
    with pytest.raises(UserError, match=r"hosts, line \d: expected a new host and its slots"):
        hosts(tmp_path / "hosts")

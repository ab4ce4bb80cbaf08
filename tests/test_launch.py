"""Training stages as they are launched: in several processes, stopped, failing, and refused where they cannot be."""

import contextlib
import importlib.metadata
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import LONG, ROOT, activated, edit, run
from forked import Forked

from tasks.__main__ import main
from tasks.launch import hosts, say_why
from tasks.line import Exchange, Failure
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


def test_the_first_error_is_shown_before_those_that_come_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert say_why(1, [], 3) == 1
    assert "one of 3 processes ended without a word" in capsys.readouterr().err
    of_it = Failure("RuntimeError: Connection closed by peer", 1, known=False)
    assert say_why(1, [of_it, Failure("error: no disk space left", 4, known=True), of_it], 3) == 4
    assert capsys.readouterr().err == "error: no disk space left\n"
    assert say_why(1, [of_it, of_it], 3) == 1
    assert capsys.readouterr().err == f"{of_it.message}\n"


CALLER = """
import signal, sys, time
from tasks.line import Line
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
line = Line(sys.argv[1], int(sys.argv[2]))
if sys.argv[3] == "fail":
    line.say(message="MemoryError: none", code=1, known=False, ended=True)
elif sys.argv[3] == "end":
    line.say(ended=True)
else:
    print("at work", flush=True)
    time.sleep(300)
"""


def caller(exchange: Exchange, rank: int, does: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CALLER, exchange.address, str(rank), does],
        env=activated(MASTER_ADDR="127.0.0.1", PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def launcher() -> Iterator[subprocess.Popen[bytes]]:
    """What runs until it is killed, in place of DeepSpeed's launcher."""
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("does", ["fail", "killed", "silent"])
def test_one_process_that_fails_ends_the_others(
    launcher: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    monkeypatch.setattr("tasks.line.SECONDS_OF_GRACE", 0.5)
    exchange = Exchange(2, several_nodes=False)
    first, second = caller(exchange, 0, "work"), caller(exchange, 1, "fail" if does == "fail" else "work")
    assert first.stdout and first.stdout.readline() == "at work\n"  # who calls after the end is another test's matter
    if does != "fail":
        assert second.stdout and second.stdout.readline() == "at work\n"
        second.send_signal(signal.SIGKILL if does == "killed" else signal.SIGSTOP)
        if does == "silent":
            monkeypatch.setattr("tasks.line.SECONDS_UNHEARD", 3.0)
    assert exchange.attend(launcher, []) == -signal.SIGKILL
    said = exchange.failures[0].message
    assert "process 2 of 2" in said
    expected = {"fail": "MemoryError", "killed": "ended without a word", "silent": "not been heard of for 3 s"}
    assert expected[does] in said
    assert first.wait(LONG) == -signal.SIGKILL
    second.kill()
    second.wait()


def test_a_signal_comes_to_those_too_who_call_later_and_without_the_stage_nobody_stays(
    launcher: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.line.SECONDS_OF_GRACE", 0.5)
    exchange = Exchange(1, several_nodes=False)
    exchange._ask(signal.SIGTERM)
    late = caller(exchange, 0, "work")
    exchange.attend(launcher, [])
    assert late.wait(LONG) == 7
    gone = Exchange(1, several_nodes=False)
    alone = caller(gone, 0, "work")
    assert alone.stdout and alone.stdout.readline() == "at work\n"
    while not gone.came:
        gone._look(0.1)
    for line in list(gone._lines):
        gone._forget(line)
    assert alone.wait(LONG) == 1


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

"""A pipeline that is killed anywhere and started again ends in the same bytes as one that never was."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import LONG, activated, edit, run
from forked import Forked, stage

from upaya.locks import hold
from upaya.paths import FLOW_LOCK
from upaya.training.steps import processes
from upaya.training.steps.interruption import stoppable


def contents(project: Path) -> dict[str, bytes]:
    """Every output that must be the same bytes for the same commit, params and seed."""
    folders = ("questions", "policies", "results")
    return {
        str(file.relative_to(project)): file.read_bytes()
        for folder in folders
        for file in sorted((project / folder).rglob("*"))
        if file.is_file() and file.name != ".gitignore"
    }


def of(name: str, outputs: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in outputs.items() if f"/{name}/" in path}


def words(name: str) -> tuple[str, ...]:
    return ("warmup",) if name == "warmup" else ("grpo", name)


def wait_for_history(project: Path, name: str, steps: int, ended: Callable[[], bool]) -> None:
    """Until a stage has written to its history, and taken so many steps."""
    history = project / ".upaya/work" / name / "history.jsonl"
    deadline = time.monotonic() + LONG

    def at_work() -> bool:
        return history.exists() and history.stat().st_mtime > 0 and history.read_bytes().count(b"\n") >= steps

    while not (ended() or at_work()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def started(project: Path, name: str, steps: int = 0) -> Forked:
    """A stage whose policy is gone, at work."""
    history = project / ".upaya/work" / name / "history.jsonl"
    if history.exists():
        os.utime(history, (0, 0))  # what an earlier one wrote is no sign of this one
    process = Forked(project, *words(name))
    wait_for_history(project, name, steps, process.ended)
    return process


def test_a_signal_while_the_processes_ask_each_other_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    coming = [signal.SIGTERM]

    def gathered(value: int) -> list[int]:
        if coming:
            signal.raise_signal(coming.pop())
        return [value]

    monkeypatch.setattr(processes, "gathered", gathered)
    before = signal.getsignal(signal.SIGTERM)
    with stoppable() as request:
        assert not request.made()  # as the others have it too: all of them stop at the same step
        assert request.made() and request.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_comes_second_is_told_who_is_at_work(project: Path, built: Path) -> None:
    """Two in one work folder would write one history."""
    shutil.rmtree(project / "policies/lenient")
    first = started(project, "lenient", steps=1)
    with first.held():  # it could be done before the second has begun
        second = Forked(project, "grpo", "lenient")
        assert second.wait(LONG) == 1
    assert re.search(r"error: lenient is being trained by process (\d+) since .*, or stop it: kill \1$", second.said())
    assert first.wait(LONG) == 0, first.said()
    assert of("lenient", contents(project)) == of("lenient", contents(built))


def test_a_flow_refuses_a_checkout_in_which_another_is_at_work(project: Path) -> None:
    with hold(project / FLOW_LOCK, "this one"):
        found = run("python", "-m", "flows.curriculum", "lenient", cwd=project, check=False)
    assert found.returncode == 1 and f"by process {os.getpid()} since" in found.stderr
    assert not {"Traceback", "server"} & set(re.findall(r"\w+", found.stdout + found.stderr)), "none is started for it"


@pytest.mark.parametrize("name", ["warmup", "lenient", "lenient-strict", "scheduled"])
def test_killed_at_random_moments_and_started_again_ends_in_the_same_bytes(
    project: Path, name: str, built: Path
) -> None:
    shutil.rmtree(project / "policies" / name)
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    for _ in range(5):
        process = started(project, name)
        process.wait(moments.uniform(0, 1.5))  # in a rollout, an update, a checkpoint, or just after the end
        process.kill()
    stage(project, *words(name))
    assert of(name, contents(project)) == of(name, contents(built)), f"killed at moments of seed {seed}"
    timed, whole = (folder / f"reports/throughput/{name}.jsonl" for folder in (project, built))
    assert steps_of(timed) == steps_of(whole), "each step once"


def steps_of(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


KILLED_BEFORE_PUBLICATION = """
import os, signal, sys
from tasks.__main__ import main
from tasks.stage import Stage
Stage.publish = lambda *arguments, **more: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_killed_after_its_last_step_a_stage_is_published_by_the_next_start(project: Path, built: Path) -> None:
    name = "warmup"
    shutil.rmtree(project / "policies" / name)
    killed = run(sys.executable, "-c", KILLED_BEFORE_PUBLICATION, *words(name), cwd=project, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (project / "policies" / name).exists()
    stage(project, *words(name))
    assert of(name, contents(project)) == of(name, contents(built))


def test_sigterm_saves_a_checkpoint_and_ends(project: Path, built: Path) -> None:
    """The program itself, as a scheduler or `kill` stops it."""
    shutil.rmtree(project / "policies/scheduled")
    command = ["tasks/run", "grpo", "scheduled"]
    process = subprocess.Popen(command, cwd=project, env=activated(), text=True, stderr=subprocess.PIPE)
    wait_for_history(project, "scheduled", 1, lambda: process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=LONG)[1]
    assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in said, said
    step = re.search(r"stopped by SIGTERM; scheduled is saved at step (\d+)", said)
    assert step and (project / f".upaya/work/scheduled/checkpoints/step-{int(step[1]):06d}.json").exists()
    assert not (project / "policies/scheduled").exists()
    stage(project, "grpo", "scheduled")
    assert of("scheduled", contents(project)) == of("scheduled", contents(built))


def test_a_changed_parameter_does_not_resume_an_old_checkpoint(project: Path) -> None:
    shutil.rmtree(project / "policies/warmup")
    process = started(project, "warmup", steps=1)
    process.terminate()
    assert process.wait(LONG) == 128 + signal.SIGTERM and "warmup is saved at step" in process.said(), process.said()
    edit(project / "params/curricula.yaml", "warmup", "optimiser", "learning_rate", value=2e-3)
    said = stage(project, "warmup")
    assert "made from other inputs or parameters: removed" in said and "starts over" in said

"""Two real processes under DeepSpeed's launcher (gloo), every stage of ZeRO, against one process."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import real_models
import several
import torch
import yaml
from conftest import activated, edit, run
from transformers import AutoModelForCausalLM

from tasks.__main__ import main
from tasks.launch import hosts, launcher_command, say_why, worker_environment
from upaya.declared.launch import Launch
from upaya.errors import UserError, shown_to_user
from upaya.training.completions.micro_batches import micro_batches, share

ZERO = range(4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Any]:
    """The records of one process, and its policy."""
    return several.way(tmp_path_factory.mktemp("alone"), 0)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have left what they saw."""
    folder = tmp_path_factory.mktemp("together")
    real_models.make(folder / "model")
    launch = Launch(processes=2, threads=1)
    found = subprocess.run(
        launcher_command(launch, str(Path(several.__file__)), str(folder)),
        env=activated(PYTHONPATH=str(Path(several.__file__).parents[1]), **worker_environment(launch, folder)),
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    return folder


def updates(records: list[dict[str, Any]]) -> list[list[float]]:
    return [[r["update"][key] for key in ("loss", "grad_norm", "live_groups")] for r in records if r.get("update")]


def drawn(records: list[dict[str, Any]]) -> list[int]:
    return [record["generated_tokens"] for record in records if "generated_tokens" in record]


@pytest.mark.parametrize("zero", ZERO)
def test_processes_see_what_one_sees(alone: tuple[list[dict[str, Any]], Any], together: Path, zero: int) -> None:
    one, half = alone[0], json.loads((together / f"zero-{zero}.json").read_text())
    sft = [record["loss"] for record in one if "loss" in record]
    assert [record["loss"] for record in half if "loss" in record] == pytest.approx(sft, rel=1e-4)
    assert len(sft) == several.PRETRAINING.steps + several.WARMUP.max_steps
    assert drawn(half) == drawn(one)[: several.HALF]  # the same completions
    assert [r["trained"] for r in half if "trained" in r] == [r["trained"] for r in one if "trained" in r][
        : several.HALF
    ]
    assert [x for u in updates(half) for x in u] == pytest.approx([x for u in updates(one)[:2] for x in u], rel=2e-3)
    assert updates(half)[0][0] != 0


@pytest.mark.parametrize("zero", ZERO)
def test_a_checkpoint_is_resumed_under_another_stage(
    alone: tuple[list[dict[str, Any]], Any], together: Path, zero: int
) -> None:
    rest = json.loads((together / f"rest-{zero}.json").read_text())
    assert [record["step"] for record in rest] == [3, 4]  # nothing of what was done is done again
    assert drawn(rest) == drawn(alone[0])[several.HALF :]
    expected = [x for u in updates(alone[0])[2:] for x in u]
    assert [x for u in updates(rest) for x in u] == pytest.approx(expected, rel=1e-2)
    saved = AutoModelForCausalLM.from_pretrained(together / f"policy-{zero}")  # the plain layout, whatever made it
    for ours, theirs in zip(saved.parameters(), alone[1].model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("zero", [2, 3])
def test_adapters_beside_frozen_weights(together: Path, zero: int) -> None:
    norms, policy = several.adapted(together / "model", 0)
    assert json.loads((together / f"norms-{zero}.json").read_text()) == pytest.approx(norms, rel=2e-2)
    merged, ours = (
        AutoModelForCausalLM.from_pretrained(together / f"adapted-{zero}"),
        dict(policy.model.named_parameters()),
    )
    for name, parameter in merged.named_parameters():
        assert torch.allclose(parameter.float(), ours[name].float(), atol=1e-2)


def test_a_batch_is_shared_out_evenly_and_wholly(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [5, 1, 9, 9, 2, 7, 3, 3, 30, 1, 1, 1]
    rows = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11]
    monkeypatch.setattr("upaya.training.steps.processes.world", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr("upaya.training.steps.processes.rank", lambda rank=rank: rank)
        shares.append(share(rows, lengths))
    assert [row for part in shares for row in part] == rows
    tokens = [sum(lengths[row] for row in part) for part in shares]
    assert max(tokens) - min(tokens) <= max(lengths[row] for row in rows)


def test_a_process_with_nothing_left_makes_passes_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upaya.training.steps.processes.gathered", lambda value: [value, 3])
    found = list(micro_batches([4, 5], [9] * 6, range(6), [2] * 6, budget=100))
    assert found == [([4, 5], True), ([4], False), ([4], False)]


# --- the stages themselves, as DVC and Prefect start them -------------------------------------------------------------


def launched(project: Path, **launch: object) -> None:
    """Declare a launch and choose it."""
    (project / "params/launch/chosen.yaml").write_text(yaml.safe_dump(launch or {"processes": 1}))
    edit(project / "params/curricula.yaml", "launch", value="chosen")


def begun(project: Path, log: Path, **launch: object) -> subprocess.Popen[str]:
    """The lenient stage, started and in its first steps."""
    launched(project, **launch)
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks", "grpo", "lenient"],
            cwd=project, env=activated(), stdout=out, stderr=out, text=True,
        )  # fmt: skip
    until = time.monotonic() + 120
    while "step 1/" not in log.read_text() and process.poll() is None and time.monotonic() < until:
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


def gone(project: Path, seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while workers(project) and time.monotonic() < until:
        time.sleep(0.1)
    return not workers(project)


def test_sigterm_reaches_all_and_another_number_of_processes_goes_on(project: Path, tmp_path: Path) -> None:
    edit(project / "params/curricula.yaml", "policies", "lenient", "max_steps", value=2000)
    edit(project / "params/curricula.yaml", "grpo", "budget", value=2000)
    log = tmp_path / "log"
    process = begun(project, log, processes=2, zero=3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143, log.read_text()
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
    process = begun(project, log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert int(log.read_text().split("saved at step ")[1].split(".")[0]) > last


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
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], launch: object, message: str
) -> None:
    if isinstance(launch, dict):
        launched(project, **launch)
    else:
        edit(project / "params/curricula.yaml", "launch", value=launch)
    (project / "two").write_text("a slots=1\nb slots=1\n")
    monkeypatch.chdir(project)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    with pytest.raises(SystemExit) as ended, shown_to_user():
        main(["grpo", "lenient"])
    said = " ".join("".join(capsys.readouterr()).split())
    assert ended.value.code == 1 and message in said, said


def test_zero_without_deepspeed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = importlib.metadata.version

    def missing(name: str) -> str:
        if name == "deepspeed":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    launched(project, processes=2, zero=1)
    monkeypatch.chdir(project)
    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(SystemExit), shown_to_user():
        main(["grpo", "lenient"])
    assert "deepspeed is not installed; `make setup`" in " ".join("".join(capsys.readouterr()).split())


@pytest.mark.parametrize("line", ["a", "a slots=x", "a slots=1\na slots=2"])
def test_a_hostfile_that_says_nothing(tmp_path: Path, line: str) -> None:
    (tmp_path / "hosts").write_text(f"# ours\n{line}\n")
    with pytest.raises(UserError, match=r"hosts, line \d: expected a new host and its slots"):
        hosts(tmp_path / "hosts")

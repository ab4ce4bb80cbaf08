"""The pipeline in miniature, end to end, by the commands that a user types."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import activated, copy_project, edit, run

POLICIES = ("base", "warmup", "lenient", "lenient-strict")


def contents(project: Path) -> dict[str, bytes]:
    """Every output that must be the same bytes for the same commit, params and seed."""
    folders = ("questions", "policies", "results")
    return {
        str(file.relative_to(project)): file.read_bytes()
        for folder in folders
        for file in sorted((project / folder).rglob("*"))
        if file.is_file() and file.name != ".gitignore"
    }


@pytest.mark.parametrize("name", POLICIES)
def test_transformers_opens_every_policy(built: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = built / "policies" / name
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() > 0 and len(AutoTokenizer.from_pretrained(folder)) > 0
    origin = json.loads((folder / "policy.json").read_text())
    assert {"name", "parent", "regime", "seed", "steps", "total_steps", "made_from"} <= origin.keys()


def test_history_has_both_regimes_at_every_step_and_the_switch_is_recorded(built: Path) -> None:
    steps = []
    for name in ("lenient", "lenient-strict"):
        lines = (built / f"policies/{name}/history.jsonl").read_text().splitlines()
        steps += [record for record in map(json.loads, lines) if "event" not in record]
    assert [record["step"] for record in steps] == list(range(1, 11))
    for record in steps:
        for regime in ("lenient", "strict"):
            fates = record["regimes"][regime]
            assert fates["live"] + fates["dead_all_wrong"] + fates["dead_all_right"] == pytest.approx(1)
    switch = json.loads((built / "policies/lenient-strict/policy.json").read_text())["switch"]
    assert (switch["from"], switch["to"], switch["step"]) == ("lenient", "strict", 6)


def test_metrics_hold_what_is_asked_of_them(built: Path) -> None:
    metrics = json.loads((built / "results/lenient-strict/metrics.json").read_text())
    wanted = "strict_accuracy pass_at_1 pass_at_8 format_rate n_questions seed total_steps generated_tokens"
    assert set(wanted.split()) <= metrics.keys()
    assert metrics["total_steps"] == 10 and metrics["n_questions"] == 24
    low, high = metrics["format_rate_interval"]
    assert low <= metrics["format_rate"] <= high
    run("dvc", "metrics", "show", cwd=built)


def test_a_second_repro_runs_nothing(built: Path) -> None:
    assert "Running stage" not in run("dvc", "repro", cwd=built).stdout
    assert "up to date" in run("dvc", "status", cwd=built).stdout


def test_the_same_inputs_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = copy_project(tmp_path)
    run("dvc", "repro", "--no-run-cache", cwd=again)
    assert contents(again) == contents(built)


def test_a_changed_strict_parameter_reruns_strict_and_what_follows(project: Path) -> None:
    edit(project / "params/curricula.yaml", "policies", "lenient-strict", "learning_rate", value=1e-5)
    assert set(json.loads(run("dvc", "status", "--json", cwd=project).stdout)) == {"policy@lenient-strict"}
    ran = run("dvc", "repro", cwd=project).stdout
    assert {line.split("'")[1] for line in ran.splitlines() if line.startswith("Running stage")} == {
        "policy@lenient-strict",
        "evaluate@lenient-strict",
    }


@pytest.mark.parametrize("stage", ["warmup", "policy@lenient", "policy@lenient-strict"])
def test_killed_and_started_again_ends_in_the_same_bytes(project: Path, stage: str, built: Path) -> None:
    name = stage.removeprefix("policy@")
    program = ["tasks/run", "warmup"] if stage == "warmup" else ["tasks/run", "grpo", name]
    expected = contents(built)
    shutil.rmtree(project / "policies" / name)
    history = project / ".upaya/work" / name / "history.jsonl"
    for lines in (3, 5):  # after so many lines of history, wherever the stage then is
        process = subprocess.Popen(program, cwd=project, env=activated(), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if history.exists() and history.read_bytes().count(b"\n") >= lines:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        process.wait()
    run(*program, cwd=project)
    ours = contents(project)
    assert {k: v for k, v in ours.items() if f"/{name}/" in k} == {
        k: v for k, v in expected.items() if f"/{name}/" in k
    }


def test_the_flow_finds_everything_current_and_shows_the_table(built: Path) -> None:
    found = run("python", "-m", "flows.curriculum", "lenient-strict", cwd=built, PREFECT_HOME=str(built / ".prefect"))
    assert "Running stage" not in found.stdout
    for name in POLICIES:
        assert name in found.stdout
    assert "lenient → strict at" in " ".join(found.stdout.split())
    assert (found.stdout + found.stderr).count("Skipped") >= 9


def test_an_unknown_policy_ends_the_flow_with_a_hint(built: Path) -> None:
    found = run(
        "python", "-m", "flows.curriculum", "lenient-strickt", cwd=built, check=False,
        PREFECT_HOME=str(built / ".prefect"),
    )  # fmt: skip
    assert found.returncode == 1
    assert "did you mean 'lenient-strict'" in found.stdout + found.stderr
    assert "Traceback" not in found.stdout + found.stderr


def test_mlflow_holds_a_run_per_stage_and_the_switch(built: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{built / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("upaya")
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert {"base", "warmup", "lenient", "lenient-strict", "evaluate lenient-strict"} <= runs.keys()
    strict = runs["lenient-strict"]
    assert strict.data.tags["regime"] == "strict" and strict.data.metrics["switch_step"] == 6
    assert "lenient" in strict.data.tags["event.switch"]
    assert len(client.get_metric_history(strict.info.run_id, "success")) == 4


def test_an_unreachable_mlflow_server_costs_a_warning(project: Path) -> None:
    found = run("tasks/run", "evaluate", "lenient", cwd=project, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "The run goes on" in found.stderr

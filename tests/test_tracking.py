"""MLflow: one run per curriculum, nothing lost and nothing doubled, whatever becomes of the server."""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import run
from mlflow_server import Server

from upaya.tracking import tracker as trackers
from upaya.tracking.store import PARENT, Store, shown_uri
from upaya.tracking.told import CURRICULUM, STAGE, Told
from upaya.tracking.tracker import Tracker, reason


def store_of(project: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{project / 'mlruns/mlflow.db'}")


def runs_of(client: Any) -> dict[tuple[str, str], Any]:
    """Every run but the children by its name and its kind."""
    experiment = client.get_experiment_by_name("upaya").experiment_id
    found = [run for run in client.search_runs([experiment]) if PARENT not in run.data.tags]
    return {(run.info.run_name, run.data.tags["kind"]): run for run in found}


def test_a_curriculum_is_one_run_with_its_whole_curve_its_evaluation_and_its_stages(built: Path) -> None:
    client = store_of(built)
    runs = runs_of(client)
    whole = runs["lenient-strict", CURRICULUM]
    history = client.get_metric_history(whole.info.run_id, "success")
    assert [metric.step for metric in history] == list(range(1, 11)), "one axis, from the warm-up on"
    assert whole.info.status == "FINISHED" and whole.data.metrics["switch_step"] == 6
    assert "lenient → strict" in whole.data.tags["event.switch"]
    data = whole.data
    assert {"eval/strict_accuracy", "eval/strict_accuracy/low", "eval/strict_accuracy/high"} <= data.metrics.keys()
    assert {"seed", "arm", "regimes", "evaluated_questions", "policy.learning_rate", "lenient.learning_rate",
            "grpo.group_size"} <= data.params.keys()  # fmt: skip
    shares = [key for key in data.metrics if key.startswith("throughput/share/")]
    last = [
        metric.value
        for key in shares
        for metric in client.get_metric_history(whole.info.run_id, key)
        if metric.step == 10  # not every step has every part
    ]
    assert len(last) > 3 and sum(last) == pytest.approx(1)
    assert data.metrics["throughput/tokens_per_second/rollouts"] > 0
    assert "seed" not in data.metrics and "eval/n_questions" not in data.metrics
    children = client.search_runs([whole.info.experiment_id], f"tags.`{PARENT}` = '{whole.info.run_id}'")
    assert {child.data.tags["policy"] for child in children} == {"base", "warmup", "lenient", "lenient-strict"}
    assert all(child.data.params for child in children)
    assert {item.dataset.name for item in whole.inputs.dataset_inputs} == {"questions/train", "questions/test"}
    assert ("lenient", CURRICULUM) not in runs, "what others are trained from is a stage"


def test_a_policy_is_a_version_of_the_model_that_says_which_bytes_it_is(built: Path) -> None:
    client = store_of(built)
    best = client.get_model_version_by_alias("upaya", "best")
    whole = runs_of(client)["lenient-strict", CURRICULUM]
    assert best.run_id == whole.info.run_id
    origin = json.loads((built / "policies/lenient-strict/policy.json").read_text())
    assert best.tags["sha256.model.safetensors"] == origin["weights"]["model.safetensors"]


def content(project: Path) -> dict[str, list[Any]]:
    """All that is comparable between two stores: no ids, no times."""
    with sqlite3.connect(project / "mlruns/mlflow.db") as database:
        return {
            "metrics": sorted(database.execute(
                "SELECT r.name, m.key, m.step, m.value FROM metrics m JOIN runs r USING (run_uuid)").fetchall()),
            "params": sorted(database.execute(
                "SELECT r.name, p.key, p.value FROM params p JOIN runs r USING (run_uuid)").fetchall()),
            "runs": sorted(database.execute("SELECT name, status FROM runs").fetchall()),
            "models": database.execute("SELECT count(*) FROM logged_models").fetchall(),
            "versions": database.execute("SELECT count(*) FROM model_versions").fetchall(),
        }  # fmt: skip


def test_track_changes_nothing_that_is_there_and_fills_an_empty_store(project: Path) -> None:
    live = content(project)
    run("upaya", "track", cwd=project)
    assert content(project) == live
    whole = runs_of(store_of(project))["lenient-strict", CURRICULUM]
    assert whole.data.tags["dvc.out"] in (project / "dvc.lock").read_text()
    shutil.rmtree(project / "mlruns")
    run("upaya", "track", cwd=project)
    assert content(project) == live


def test_a_moved_project_keeps_its_artifacts(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(project / "mlruns", moved / "mlruns")
    shutil.rmtree(project / "mlruns")
    monkeypatch.chdir(moved)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = Store().client
    whole = runs_of(client)["lenient-strict", CURRICULUM]
    path = client.download_artifacts(whole.info.run_id, "curve.png", str(tmp_path))
    assert Path(path).read_bytes().startswith(b"\x89PNG")


def test_what_is_printed_of_an_address_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secret@127.0.0.1:9/base")
    assert shown_uri() == "http://127.0.0.1:9/base"


# --- a server that comes and goes ------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    found = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found.uri)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").mkdir()
    (tmp_path / "params/curricula.yaml").write_text("compare: []\npolicies: {}\n")
    yield found
    found.kill()


def record(step: int) -> dict[str, Any]:
    return {"step": step, "success": step / 100, "regimes": {"strict": {"live": 0.5}}}


def test_what_a_server_misses_it_gets_when_it_is_back(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.start()
    told = Told("any", "any:1", STAGE, params={"a": "x" * 7000})
    with Tracker(told) as tracker:
        for step in range(1, 21):
            tracker.record(record(step))
        wait_for(lambda: len(points("any")) == 20)
        server.kill()
        for step in range(21, 41):
            tracker.record(record(step))
        time.sleep(2 * trackers.PAUSE)
        server.start()
        for step in range(41, 51):
            tracker.record(record(step))
    assert points("any") == list(range(1, 51)), capsys.readouterr().err
    assert "warning" not in capsys.readouterr().err
    # Killed and started again from a checkpoint: the same run goes on; made from something else it is another.
    again = Told("any", "any:1", STAGE)
    with Tracker(again) as tracker:
        for step in range(31, 61):
            tracker.record(record(step))
    assert points("any") == list(range(1, 61))
    with Tracker(Told("any", "any:2", STAGE)) as tracker:
        tracker.record(record(1))
    from mlflow import MlflowClient

    assert len(MlflowClient(server.uri).search_runs(["1"], "tags.`upaya.key` LIKE 'any:%'")) == 2


def points(name: str) -> list[int]:
    """The steps of the first run of a name, as the server has them."""
    from mlflow import MlflowClient

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("upaya")
    if experiment is None:
        return []
    found = client.search_runs([experiment.experiment_id], f"tags.`upaya.key` = '{name}:1'")
    return [metric.step for metric in client.get_metric_history(found[0].info.run_id, "success")] if found else []


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_server_that_stays_away_costs_one_line(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "PATIENCE", 0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//somebody:secret@"))
    with Tracker(Told("any", "any:1", STAGE)) as tracker:
        tracker.record(record(1))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "`upaya track` sends what is missing" in said and server.uri in said
    assert "secret" not in said and "secret" not in reason(ValueError(f"to {os.environ['MLFLOW_TRACKING_URI']} failed"))

"""One MLflow store, brought to hold what runs are told, however often they are told it.

Nothing is sent twice: a run is found again by what it is made from, its steps go on after the last that the store has,
and params, tags and files are sent where they are not there yet.
"""

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from upaya.colours import colour
from upaya.files import fingerprint
from upaya.paths import main_checkout
from upaya.tracking.told import CURRICULUM, Told, arms, digest_of, flat
from upaya.tracking.view import install

# One request gives up soon instead of retrying for minutes: who sends tries again.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
EXPERIMENT = "upaya"
# The UI opens on runs, not on LLM traces.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
LARGEST = 6000  # characters of a param
AT_ONCE = 1000  # metrics of a request; a step is never cut, so that what a request adds is whole steps
SUMMARY = 1  # slashes in a metric's name up to which it stands on the model too
KEY, FILES, MODEL, REACHED = "upaya.key", "upaya.files", "upaya.model", "upaya.strict_accuracy"
PARENT, COLOUR = "mlflow.parentRunId", "mlflow.runColor"


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI where it is set, else the sqlite file under mlruns/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{main_checkout() / 'mlruns' / 'mlflow.db'}"


def shown_uri() -> str:
    """The tracking URI as it may be printed: without user and password."""
    parts = urlsplit(tracking_uri())
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host)) if parts.netloc else tracking_uri()


@dataclass
class _Known:
    """A run as the store has it. Attributes: last: the last step there. inputs: whether its datasets are there."""

    run: str
    params: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    last: int = -1
    status: str = "RUNNING"
    inputs: bool = False


class Store:
    """A connection. Every method raises what MLflow raises where the store does not answer."""

    def __init__(self) -> None:
        for name, value in SETTINGS.items():  # MLflow reads them when it is imported
            os.environ.setdefault(name, value)
        import mlflow  # takes seconds, so only here, beside the work

        uri = tracking_uri()
        artifacts = None
        if uri.startswith("sqlite:///"):
            file = Path(uri.removeprefix("sqlite:///"))
            file.parent.mkdir(parents=True, exist_ok=True)
            artifacts = (file.parent.resolve() / "artifacts").as_uri()
            if not file.exists():
                _make(file, artifacts)
        mlflow.set_tracking_uri(uri)  # where a model version looks for its model, whatever the client's
        self.client = mlflow.MlflowClient(uri)
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            self.experiment = str(self.client.create_experiment(EXPERIMENT, artifacts, tags=EXPERIMENT_TAGS))
        else:
            self.experiment = str(experiment.experiment_id)
            if artifacts and experiment.artifact_location != artifacts:
                _moved(file, experiment.artifact_location, artifacts)
        self._known: dict[str, _Known] = {}

    def view(self) -> str:
        """Install the view that compares the curricula; the fragment of its address."""
        return install(self.client, self.experiment)

    def bring(self, told: Told, status: str = "FINISHED") -> str:
        """Make the store hold all that is told of a run; its id. What is there already is left as it is."""
        known = self._known.get(told.key) or self._found(told) or self._created(told)
        self._known[told.key] = known
        self._params(known, told)
        self._steps(known, told)
        self._final(known, told)
        self._tag(known, self._tags(known, told))
        self._files(known, told)
        self._inputs(known, told)
        for stage in told.stages if status != "RUNNING" else []:  # thousands of metrics: not beside the first steps
            key, tags = f"{told.key}/{stage.tags['policy']}", {**stage.tags, PARENT: known.run}
            self.bring(replace(stage, key=key, tags=tags))
        if told.kind == CURRICULUM and told.weights and told.final:
            self._model(known, told)
        if status != known.status:
            if status == "RUNNING":
                self.client.update_run(known.run, status=status)
            else:
                self.client.set_terminated(known.run, status=status)
            known.status = status
        return known.run

    def _found(self, told: Told) -> _Known | None:
        """The run as the store has it, by its key."""
        runs = self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{told.key}'", max_results=1)
        if not runs:
            return None
        data, info = runs[0].data, runs[0].info
        known = _Known(info.run_id, set(data.params), dict(data.tags), dict(data.metrics), status=info.status)
        for mark in ("success", "loss"):  # a step of GRPO or of SFT has one of them
            if mark in known.metrics:
                known.last = max(metric.step for metric in self.client.get_metric_history(known.run, mark))
                break
        return known

    def _created(self, told: Told) -> _Known:
        tags = {KEY: told.key, "kind": told.kind, "mlflow.source.name": told.name, **told.tags}
        run = self.client.create_run(self.experiment, run_name=told.name, tags=tags)
        return _Known(run.info.run_id, tags=dict(run.data.tags))

    def _tags(self, known: _Known, told: Told) -> dict[str, str]:
        tags = told.tags | told.event_tags()
        if told.kind == CURRICULUM:  # a stage that was once asked for by name stays a curriculum
            tags |= {"kind": CURRICULUM, COLOUR: colour(told.name, arms())}
        return tags

    def _params(self, known: _Known, told: Told) -> None:
        from mlflow.entities import Param

        new = [Param(key, _shortened(value)) for key, value in told.params.items() if key not in known.params]
        for start in range(0, len(new), 100):  # as many as MLflow takes at once
            self.client.log_batch(known.run, params=new[start : start + 100])
        known.params |= {param.key for param in new}

    def _steps(self, known: _Known, told: Told) -> None:
        """The steps after the last one that the store has, and where the regime switched."""
        from mlflow.entities import Metric

        batch: list[Metric] = []
        for record in told.steps:
            step = int(record["step"])
            if step <= known.last:
                continue
            numbers = flat({key: value for key, value in record.items() if key != "step"})
            if batch and len(batch) + len(numbers) > AT_ONCE:
                self._sent(known, batch)
                batch = []
            batch += [Metric(key, value, _now(), step) for key, value in numbers.items()]
        self._sent(known, batch)
        switches = [int(event["step"]) for event in told.events if event["event"] == "switch"]
        if switches and known.metrics.get("switch_step") != switches[-1]:
            there = {metric.step for metric in self.client.get_metric_history(known.run, "switch_step")}
            new = [Metric("switch_step", float(step), _now(), step) for step in switches if step not in there]
            self.client.log_batch(known.run, metrics=new)
            known.metrics["switch_step"] = float(switches[-1])

    def _sent(self, known: _Known, batch: list[Any]) -> None:
        if batch:
            self.client.log_batch(known.run, metrics=batch)
            known.last = max(metric.step for metric in batch)

    def _final(self, known: _Known, told: Told) -> None:
        from mlflow.entities import Metric

        new = {key: value for key, value in told.final.items() if known.metrics.get(key) != value}
        metrics = [Metric(key, value, _now(), told.final_step) for key, value in new.items()]
        for start in range(0, len(metrics), AT_ONCE):
            self.client.log_batch(known.run, metrics=metrics[start : start + AT_ONCE])
        known.metrics |= new

    def _tag(self, known: _Known, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        new = {key: value for key, value in tags.items() if known.tags.get(key) != value}
        if new:
            self.client.log_batch(known.run, tags=[RunTag(key, value) for key, value in new.items()])
        known.tags |= new

    def _files(self, known: _Known, told: Told) -> None:
        """Pictures and tables; a tag remembers by hash what was sent."""
        if not (told.figures or told.tables):
            return
        sent: dict[str, str] = json.loads(known.tags.get(FILES, "{}"))
        now = dict(sent)
        for path in told.figures:
            now[path.name] = digest_of(path)
            if now[path.name] != sent.get(path.name):
                self.client.log_artifact(known.run, str(path))
        for name, rows in told.tables.items():
            columns = list(rows[0]) if rows else []
            table = {"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]}
            now[name] = fingerprint(table)
            if now[name] != sent.get(name):
                self.client.log_dict(known.run, table, name)  # log_table would append to the one before
        tables = [{"path": name, "type": "table"} for name in told.tables]
        self._tag(known, {FILES: json.dumps(now), "mlflow.loggedArtifacts": json.dumps(tables)})

    def _inputs(self, known: _Known, told: Told) -> None:
        """The questions, by split: name, digest, how many. The store keeps one of each digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if known.inputs or not told.datasets:
            return
        inputs = []
        for context, path in told.datasets:
            profile = json.dumps({"num_rows": path.read_bytes().count(b"\n")})
            dataset = Dataset(
                f"questions/{path.stem}", digest_of(path), "local", json.dumps({"uri": str(path)}), profile=profile
            )
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
        self.client.log_inputs(known.run, datasets=inputs)
        known.inputs = True

    def _model(self, known: _Known, told: Told) -> None:
        """The policy as a logged model and a version of the registered model, with what it reached and the hash of its
        bytes; the best version so far has the alias `best`."""
        from mlflow.entities import LoggedModelOutput, Metric
        from mlflow.exceptions import MlflowException

        reached = str(told.final["eval/strict_accuracy"])
        if known.tags.get(REACHED) == reached:
            return
        said = {f"sha256.{name}": digest for name, digest in told.weights.items()} | {
            key: told.tags[key] for key in ("dvc.out", "dvc.stage_hash") if key in told.tags
        }
        if MODEL not in known.tags:
            made = self.client.create_logged_model(self.experiment, told.name, known.run, said, model_type="policy")
            self._tag(known, {MODEL: made.model_id})
        model = known.tags[MODEL]
        metrics = [
            Metric(key, value, _now(), told.final_step, model_id=model)
            for key, value in told.final.items()
            if key.count("/") <= SUMMARY
        ]
        self.client.log_batch(known.run, metrics=metrics)
        self.client.log_outputs(known.run, [LoggedModelOutput(model, told.final_step)])
        self.client.finalize_logged_model(model, "READY")
        with contextlib.suppress(MlflowException):  # there already
            self.client.create_registered_model(EXPERIMENT)
        own = self.client.search_model_versions(f"run_id = '{known.run}'")
        if own:
            self.client.set_model_version_tag(EXPERIMENT, own[0].version, "strict_accuracy", reached)
        else:
            tags = said | {"strict_accuracy": reached}
            self.client.create_model_version(EXPERIMENT, f"models:/{model}", known.run, tags, model_id=model)
        versions = self.client.search_model_versions(f"name = '{EXPERIMENT}'")
        best = max(versions, key=lambda each: (float(each.tags.get("strict_accuracy", 0)), -int(each.version)))
        self.client.set_registered_model_alias(EXPERIMENT, "best", best.version)
        self._tag(known, {REACHED: reached})


def _make(file: Path, artifacts: str) -> None:
    """A new database, whole or not at all: one that a kill leaves half made MLflow never opens again."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        SqlAlchemyStore(f"sqlite:///{partial}", artifacts).engine.dispose()
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _moved(file: Path, old: str, new: str) -> None:
    """MLflow writes absolute paths into its database; a folder that has moved takes its artifacts with it."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        columns = {"experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location"}
        for table, column in columns.items():
            database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                (new, len(old) + 1, len(old), old),
            )


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LARGEST else f"{text[: LARGEST - 1]}…"


def _now() -> int:
    return int(time.time() * 1000)

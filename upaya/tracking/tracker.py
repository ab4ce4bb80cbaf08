"""MLflow, fed live from what stages write to history.jsonl, and rebuilt from it at any time.

Tracking is a view: it runs in a thread of its own, and a server that cannot be reached costs one warning, never a run.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from upaya.errors import Stopped
from upaya.records import event_text

# One request gives up soon instead of retrying for minutes, for the run does not wait for it.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
EXPERIMENT = "upaya"

CLOSING_SECONDS = 60.0
STOPPING_SECONDS = 10.0  # who sends SIGTERM often kills half a minute later; the history holds what is not sent


def main_checkout(start: Path | None = None) -> Path:
    """The project's root; from inside a DVC experiment's temporary copy (.dvc/tmp/exps/…) the main checkout's."""
    here = (start or Path.cwd()).resolve()
    parts = here.parts
    for index in range(len(parts) - 2):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:index])
    return here


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI where it is set, else the sqlite file under mlruns/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{main_checkout() / 'mlruns' / 'mlflow.db'}"


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """A nested record's numbers under slash-joined names: what MLflow takes as metrics."""
    numbers: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            numbers |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = float(value)
    return numbers


class Tracker:
    """One MLflow run for one stage. Calls return at once; a thread sends what they said, in order.

    Args:
        run_file: remembers the run, so that a stage that was killed goes on in it.
        sends: whether anything is sent; of several processes the first does.
    """

    def __init__(
        self,
        stage: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        run_file: Path | None = None,
        sends: bool = True,
    ) -> None:
        self.stage, self.params, self.tags, self.run_file, self.sends = stage, params, tags, run_file, sends
        self._queue: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._send, name="mlflow", daemon=True)

    def __enter__(self) -> Self:
        if self.sends:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.sends:
            return
        stopped = kind is not None and issubclass(kind, Stopped)
        self._queue.put(("end", ("FINISHED" if kind is None else "KILLED" if stopped else "FAILED",)))
        self._queue.put(None)
        self._thread.join(STOPPING_SECONDS if stopped else CLOSING_SECONDS)

    def record(self, record: Mapping[str, Any]) -> None:
        """A line of history.jsonl: a step's metrics, or an event."""
        self._queue.put(("record", (dict(record),)))

    def tag(self, tags: Mapping[str, str]) -> None:
        self._queue.put(("tag", (dict(tags),)))

    def metrics(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        self._queue.put(("metrics", (flat(metrics), step)))

    def table(self, rows: list[dict[str, Any]], file: str) -> None:
        """Rows with the same keys, shown as a table in the UI."""
        self._queue.put(("table", (rows, file)))

    def figure(self, path: Path) -> None:
        """A picture, kept as an artifact."""
        self._queue.put(("figure", (path,)))

    # --- in the thread ---------------------------------------------------------------------------------------------

    def _send(self) -> None:
        try:
            sink = None
            while (item := self._queue.get()) is not None:
                # Not before there is something to send: importing MLflow would slow down the stage's own start.
                sink = sink or _Sink(self.stage, self.params, self.tags, self.run_file)
                batch = [item]
                while not self._queue.empty() and batch[-1] is not None:
                    following = self._queue.get()
                    if following is None:
                        self._queue.put(None)
                        break
                    batch.append(following)
                sink.take(batch)
        except Exception as error:  # any failure of a view is one warning: the history holds everything
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            print(
                f"warning: MLflow at {tracking_uri()} does not take this run ({reason}). The run goes on; "
                "`upaya track` rebuilds MLflow from policies/*/history.jsonl later.",
                file=sys.stderr,
                flush=True,
            )


class _Sink:
    """Sends batches of calls to one MLflow run."""

    def __init__(self, stage: str, params: Mapping[str, Any], tags: Mapping[str, str], run_file: Path | None) -> None:
        for name, value in SETTINGS.items():  # MLflow reads them when it is imported
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # takes seconds to import, so only here, beside the work
        from mlflow.entities import Param

        self.events: dict[str, list[str]] = {}
        uri = tracking_uri()
        root = main_checkout() / "mlruns"
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(uri)
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            location = (root / "artifacts").as_uri() if uri.startswith("sqlite:///") else None
            kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on runs, not on LLM traces
            identity = self.client.create_experiment(EXPERIMENT, artifact_location=location, tags=kind)
        else:
            identity = experiment.experiment_id
        if run_file and run_file.exists():  # a killed stage goes on in the run it began
            self.run = run_file.read_text()
            return
        all_tags = {"mlflow.source.name": stage, **git_tags(), **tags}
        run = self.client.create_run(identity, run_name=stage, tags=all_tags)
        self.run = str(run.info.run_id)
        if run_file:
            run_file.write_text(self.run)
        declared = [Param(key, str(value)[:500]) for key, value in params.items()]
        for start in range(0, len(declared), 100):  # as many as MLflow takes at once
            self.client.log_batch(self.run, params=declared[start : start + 100])

    def take(self, calls: list[tuple[str, tuple[Any, ...]]]) -> None:
        from mlflow.entities import Metric

        metrics: list[Metric] = []
        for name, arguments in calls:
            if name == "record":
                record = arguments[0]
                if "event" in record:
                    self._event(record)
                    continue
                step = int(record["step"])
                numbers = flat({key: value for key, value in record.items() if key != "step"})
                metrics += [Metric(key, value, _now(), step) for key, value in numbers.items()]
            elif name == "metrics":
                metrics += [Metric(key, value, _now(), arguments[1]) for key, value in arguments[0].items()]
            elif name == "tag":
                for key, value in arguments[0].items():
                    self.client.set_tag(self.run, key, value)
            elif name == "table":
                rows, file = arguments
                columns = {key: [row.get(key) for row in rows] for key in rows[0]} if rows else {}
                self.client.log_table(self.run, columns, artifact_file=file)
            elif name == "figure":
                self.client.log_artifact(self.run, str(arguments[0]))
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(self.run, metrics[start : start + 1000])
        for name, arguments in calls:
            if name == "end":
                self.client.set_terminated(self.run, status=arguments[0])

    def _event(self, event: Mapping[str, Any]) -> None:
        """MLflow has no event marks: an event becomes a tag that says from, to and why, and a switch also a metric and
        (the first one) a param; evaluation adds a figure."""
        self.events.setdefault(event["event"], []).append(event_text(event))
        self.client.set_tag(self.run, f"event.{event['event']}", "\n".join(self.events[event["event"]])[:4000])
        if event["event"] == "switch":
            step = int(event["step"])
            self.client.log_metric(self.run, "switch_step", float(step), step=step)
            if len(self.events["switch"]) == 1:
                self.client.log_param(self.run, "switch_step", step)


def _now() -> int:
    return int(time.time() * 1000)


def git_tags() -> dict[str, str]:
    """The commit that the working tree is on, marked where the tree differs from it."""

    def git(*arguments: str) -> str:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else ""

    commit = git("rev-parse", "HEAD")
    if not commit:
        return {}
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "upaya", "tasks", "flows", "params", "corpus")
    return {"mlflow.source.git.commit": commit, "git.commit": commit + (" + changes" if changed else "")}

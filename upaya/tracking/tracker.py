"""A run of MLflow, fed live while a stage works, by a thread of its own.

Tracking is a view: a store that is away, slow or broken costs a warning at the end, never a step. What it has missed is
sent when it answers again; what it has not got when the stage ends, `upaya track` sends later from the same files.
"""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from upaya.errors import Stopped
from upaya.tracking.store import Store, shown_uri
from upaya.tracking.told import Told

PAUSE = 1.0  # seconds from one sending to the next: what came in between goes together
LONGEST_PAUSE = 15.0  # between two tries while the store does not answer
CLOSING_SECONDS = 60.0  # for what is left to send at the end, while the store takes it
PATIENCE = 10.0  # for a store that does not answer at the end: it may just be starting again
ASIDE = "(raised as a result of"  # SQLAlchemy's first line, where another says what is wrong
STOPPING_SECONDS = 10.0  # who sends SIGTERM often kills half a minute later; the history holds what is not sent


class Tracker:
    """Tells one run while it goes on. Calls return at once.

    Args:
        sends: whether anything is sent; of several processes the first does.
    """

    def __init__(self, told: Told, sends: bool = True) -> None:
        self.told, self.sends = replace(told, tags=told.tags | git_tags()) if sends else told, sends
        self._news, self._lock = threading.Event(), threading.Lock()
        self._status, self._deadline, self._done = "RUNNING", float("inf"), False
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
        limit = STOPPING_SECONDS if stopped else CLOSING_SECONDS
        with self._lock:
            self._status = "FINISHED" if kind is None else "KILLED" if stopped else "FAILED"
            self._deadline = time.monotonic() + min(limit, PATIENCE)
        self._news.set()
        self._thread.join(limit)
        if self._thread.is_alive():
            self._warn("it is too slow")

    def record(self, record: Mapping[str, Any]) -> None:
        """A line of history.jsonl: a step's metrics, or an event."""
        with self._lock:
            self.told.records.append(dict(record))
        self._news.set()

    def _send(self) -> None:
        """Until the run has ended and all is sent, or nobody took it."""
        store: Store | None = None
        pause = PAUSE
        while True:
            self._news.wait()
            self._news.clear()
            with self._lock:
                told, status = replace(self.told, records=list(self.told.records)), self._status
            try:
                store = store or Store()
                store.bring(told, status)
                pause = PAUSE
                if status != "RUNNING":
                    return
            except Exception as error:  # any failure of a view: the history holds everything
                store = None  # it may come back as another one: look at what it has
                if time.monotonic() + pause > self._deadline:
                    self._warn(reason(error))
                    return
                self._news.set()
                pause = min(2 * pause, LONGEST_PAUSE)
            self._rest(pause)

    def _rest(self, seconds: float) -> None:
        """Wait, but not beyond the end of the run for long."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            time.sleep(min(0.2, until - now))
            if self._deadline != float("inf"):
                until = min(until, now + PAUSE)

    def _warn(self, why: str) -> None:
        print(
            f"warning: MLflow at {shown_uri()} has not taken all of {self.told.name} ({why}). Nothing is lost: "
            "`upaya track` sends what is missing.",
            file=sys.stderr,
            flush=True,
        )


def tell(told: Told) -> None:
    """A run that is over, whole."""
    with Tracker(told):
        pass


def reason(error: Exception) -> str:
    """What MLflow says, in a line, without the user and password of the address that it may quote."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(ASIDE)]
    said = lines[0] if lines else type(error).__name__
    return re.sub(r"//[^/@\s]+@", "//", said)[:200]


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

"""Progress of a long loop: a bar with rate and time left in a terminal, plain lines when the output is piped."""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

console = Console(highlight=False, soft_wrap=True)

if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = 150  # a pipe has no width; tables shall not be squeezed into 80 columns

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_NOTES = 2.0


@dataclass(frozen=True)
class Reached:
    """How far a loop is, as it notes it in a file for those who look from outside."""

    done: int
    total: int
    unit: str
    note: str


def reached(file: Path) -> Reached | None:
    """What stands in such a file; None where there is none."""
    try:
        return TypeAdapter(Reached).validate_json(file.read_bytes())
    except (OSError, ValidationError):  # it is a note, and the next is written in a moment
        return None


class Progress:
    """`with Progress("lenient", 400) as progress: progress.advance("success 4 %")`, `progress.say("switch …")`."""

    def __init__(self, name: str, total: int, done: int = 0, unit: str = "step", file: Path | None = None) -> None:
        """Args: file: where how far it is is noted every other second."""
        self.name, self.total, self.done, self.unit, self.file = name, total, done, unit, file
        self._last_note = 0.0
        self._started_at, self._started_with = time.monotonic(), done
        self._last_line = 0.0
        self._bar: Bar | None = None
        if console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
                console=console,
            )  # fmt: skip

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self.name, total=self.total, completed=self.done, rate="", note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, note: str = "", by: int = 1) -> None:
        self.done += by
        elapsed = time.monotonic() - self._started_at
        rate = (self.done - self._started_with) / max(elapsed, 1e-9)
        shown = f"{rate:.1f} {self.unit}s/s"
        self._note(note)
        if self._bar:
            self._bar.update(self._task, completed=self.done, rate=shown, note=note)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES or self.done == self.total:
            self._last_line = time.monotonic()
            left = (self.total - self.done) / max(rate, 1e-9)
            console.print(f"{self.name}: {self.unit} {self.done}/{self.total}, {shown}, {left:.0f} s left  {note}")

    def _note(self, note: str) -> None:
        if self.file and time.monotonic() - self._last_note >= SECONDS_BETWEEN_NOTES:
            self._last_note = time.monotonic()
            partial = self.file.with_suffix(".partial")
            partial.write_text(json.dumps(asdict(Reached(self.done, self.total, self.unit, note))), encoding="utf-8")
            partial.replace(self.file)

    def resume(self, done: int) -> None:
        """So many were done by an earlier process: the rate and the time left are of what comes now."""
        self.done = self._started_with = done
        self._started_at = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=done)
        self.say(f"resumed at {self.unit} {done}/{self.total}")

    def say(self, message: str) -> None:
        """A line of its own, above the bar."""
        console.print(f"{self.name}: {message}")

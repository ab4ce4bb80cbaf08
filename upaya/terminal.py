"""Progress of a long loop: a bar with rate and time left in a terminal, plain lines when the output is piped."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

console = Console(highlight=False, soft_wrap=True)

if not console.is_terminal:
    console.width = 150  # a pipe has no width; tables shall not be squeezed into 80 columns

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """`with Progress("lenient", 400) as progress: progress.advance("success 4 %")`, `progress.say("switch …")`."""

    def __init__(self, name: str, total: int, done: int = 0, unit: str = "step") -> None:
        self.name, self.total, self.done, self.unit = name, total, done, unit
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

    def advance(self, note: str = "") -> None:
        self.done += 1
        elapsed = time.monotonic() - self._started_at
        rate = (self.done - self._started_with) / max(elapsed, 1e-9)
        shown = f"{rate:.1f} {self.unit}s/s"
        if self._bar:
            self._bar.update(self._task, completed=self.done, rate=shown, note=note)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES or self.done == self.total:
            self._last_line = time.monotonic()
            left = (self.total - self.done) / max(rate, 1e-9)
            console.print(f"{self.name}: {self.unit} {self.done}/{self.total}, {shown}, {left:.0f} s left  {note}")

    def say(self, message: str) -> None:
        """A line of its own, above the bar."""
        console.print(f"{self.name}: {message}")

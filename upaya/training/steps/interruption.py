"""SIGTERM, Ctrl-C and a closing terminal ask a training loop to stop: it ends its step, saves a checkpoint, ends."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from upaya.errors import Stopped
from upaya.training.steps import processes

SECONDS_OF_ONE = 3.0  # signals within them are one: who stops a group often stops the parent too, which tells them


class Request:
    """Whether the process has been asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.number: int | None = None

    def made(self) -> bool:
        """Whether any process of the stage has been asked; all of them call this at the same point of the loop."""
        asked = max(processes.gathered(self.number or 0))
        if asked:  # else what is kept stays: a signal that came in the meantime stands there, for the next call
            self.number = asked
        return asked > 0

    def stop(self, saved: str) -> None:
        """Raise Stopped. Args: saved: what stands on disk, in words."""
        assert self.number is not None
        name = signal.Signals(self.number).name
        raise Stopped(f"stopped by {name}; {saved}. The same command goes on from there.", 128 + self.number)


@contextmanager
def stoppable() -> Iterator[Request]:
    """While inside, a first SIGTERM, SIGINT or SIGHUP is a request, a later one acts as it always does."""
    request = Request()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # nohup
    first: list[float] = []

    def note(number: int, frame: FrameType | None) -> None:
        first.append(time.monotonic())
        if first[-1] - first[0] < SECONDS_OF_ONE:
            request.number = request.number or number
        else:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()

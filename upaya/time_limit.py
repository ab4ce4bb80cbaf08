"""Foreign code bounded in time: patterns, chat templates and components of a user's own, any of which may never end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Overtime(BaseException):
    """What is inside `within` takes too long. It is no Exception, so that an `except Exception` inside does not stop
    it; who calls `within` makes words of it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises Overtime inside when it takes longer, and again after as long where that was caught.

    Python looks for signals between two of its own steps and while it matches a pattern; a library's loop goes on to
    its end. Other threads than the main one get no signals: there nothing is bounded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise Overtime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

"""Where the time of a stage goes: seconds of each part and tokens, a line for each step, in a file beside the history.

The history holds what the same run makes again to the byte. Times are never the same twice, so they stand apart.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from upaya.records.throughput import Part, Timed
from upaya.training.steps.history import History


class Throughput:
    """The parts of a stage's steps, by the clock of this process: of several processes the first writes what it saw.

    A step's line covers all since the line before, the checkpoint that came after that included.
    """

    def __init__(self, file: History) -> None:
        self.file = file
        self._seconds, self._tokens = defaultdict[Part, float](float), Counter[Part]()
        self._begun = time.monotonic()

    @contextmanager
    def part(self, name: Part) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] += time.monotonic() - begun

    def count(self, name: Part, tokens: int) -> None:
        """Tokens that went through a part, in all processes together."""
        self._tokens[name] += tokens

    def line(self, step: int) -> Timed:
        """Write what a step took, and begin anew; what was written."""
        now = time.monotonic()
        seconds = dict(self._seconds)
        seconds["rest"] = max(0.0, now - self._begun - sum(seconds.values()))
        line: Timed = {
            "step": step,
            "seconds": {name: round(value, 6) for name, value in seconds.items()},
            "tokens": dict(self._tokens),
        }
        self.file.append({**line})
        self._seconds.clear()
        self._tokens.clear()
        self._begun = now
        return line

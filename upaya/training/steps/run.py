"""What every training loop is given beside what it trains: where it works and what it is bound to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upaya.paths import HISTORY, ROLLOUTS, TIMED
from upaya.records.throughput import rates
from upaya.training.steps.checkpoints import Checkpoints
from upaya.training.steps.history import History
from upaya.training.steps.throughput import Throughput


@dataclass(frozen=True)
class Run:
    """One training stage at work.

    Attributes:
        name: of the policy that comes of it, for messages.
        work: folder for history.jsonl, rollouts.jsonl, throughput.jsonl and checkpoints.
        fingerprint: what the stage is made from; checkpoints made from anything else are not resumed.
        on_record: called with every line of the history, those before a resumed checkpoint excepted; with that of a
            step stands its `throughput`.
        on_resumed: called once, with the steps taken before, where a checkpoint is resumed.
        zero: stage of ZeRO, where several processes train (upaya/training/steps/engine.py).
    """

    name: str
    work: Path
    fingerprint: str
    seed: int
    on_record: Callable[[dict[str, Any]], None]
    zero: int = 0
    on_resumed: Callable[[int], None] = lambda steps: None

    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.work / "checkpoints", self.fingerprint)

    def history(self) -> History:
        return History(self.work / HISTORY)

    def rollouts(self) -> History:
        """Groups of its rollouts, in a file that is resumed as the history is."""
        return History(self.work / ROLLOUTS)

    def throughput(self) -> Throughput:
        return Throughput(History(self.work / TIMED))

    def on_step(self, record: dict[str, Any], throughput: Throughput) -> None:
        """Tell of a step that has been written to the history, and write what it took."""
        self.on_record(record | {"throughput": rates([throughput.line(record["step"])])})

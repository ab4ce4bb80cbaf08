"""history.jsonl: what happened at each step of a stage, one JSON object a line, without times of day, so that the same
run gives the same bytes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upaya import processes
from upaya.files import dumps, read_jsonl


class History:
    """An append-only file that a resumed run takes back to where its checkpoint was. The first process writes it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = (path if processes.rank() == 0 else Path(os.devnull)).open("ab")

    @property
    def offset(self) -> int:
        """Bytes written so far, all on disk: what a checkpoint remembers."""
        self._file.flush()
        if processes.rank() == 0:
            os.fsync(self._file.fileno())
        return self._file.tell()

    def append(self, record: dict[str, Any]) -> None:
        self._file.write(f"{dumps(record)}\n".encode())
        self._file.flush()

    def truncate(self, offset: int) -> None:
        """Forget what was written after `offset`."""
        if processes.rank():
            return
        self._file.truncate(offset)
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._file.close()


def read_history(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in read_jsonl(path)]


def event_text(event: Mapping[str, Any]) -> str:
    """An event of a history in words: what happened at which step, and why."""
    value = f" (it was {event['value']:.3f})" if event["value"] is not None else ""
    why = f"{event['condition']}{value}"
    if event["event"] == "switch":
        return f"{event['from']} → {event['to']} at step {event['step']}: {why}"
    said = {"handover": "hands over", "alarm": "ALARM", "refill": "refill"}[event["event"]]
    return f"{said} at step {event['step']}: {why}"

"""history.jsonl as a stage writes it: what happened at each step, one JSON object a line, without times of day, so that
the same run gives the same bytes."""

import hashlib
import os
from pathlib import Path
from typing import Any

from upaya.errors import UserError
from upaya.files import dumps
from upaya.training.steps import processes


class History:
    """An append-only file that a resumed run takes back to where its checkpoint was. The first process writes it.

    It is known by length and hash: whatever anybody else adds, takes away or changes is found when a checkpoint is
    resumed and when the file is closed, before it can be published.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = (path if processes.rank() == 0 else Path(os.devnull)).open("ab")
        self._bytes, self._written = 0, hashlib.sha256()

    def append(self, record: dict[str, Any]) -> None:
        line = f"{dumps(record)}\n".encode()
        self._file.write(line)
        self._file.flush()
        self._bytes += len(line)
        self._written.update(line)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint remembers of what was written so far, all of which is on disk then."""
        self._file.flush()
        if processes.rank() == 0:
            os.fsync(self._file.fileno())
        return {"bytes": self._bytes, "sha256": self._written.hexdigest()}

    def resume(self, state: dict[str, Any] | None) -> None:
        """Forget what was written after the checkpoint with this state; without one, everything. Raises UserError where
        what was written before it is no longer there."""
        if processes.rank():
            return
        length = state["bytes"] if state else 0
        with self.path.open("rb") as file:
            before = file.read(length)
        self._bytes, self._written = len(before), hashlib.sha256(before)
        if state and self.state_dict() != state:
            raise self._damaged("its checkpoint remembers")
        self._file.truncate(length)
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Raises UserError where the file does not hold what was written, and that alone."""
        expected = self.state_dict()
        self._file.close()
        if processes.rank():
            return
        found = self.path.read_bytes() if self.path.is_file() else b""
        if {"bytes": len(found), "sha256": hashlib.sha256(found).hexdigest()} != expected:
            raise self._damaged("was written")

    def _damaged(self, than: str) -> UserError:
        return UserError(
            f"{self.path}: its content is not what {than}: it was changed or damaged from outside. Nothing is "
            f"published from it; remove the folder {self.path.parent} to start this stage over."
        )

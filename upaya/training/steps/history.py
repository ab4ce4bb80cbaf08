"""history.jsonl as a stage writes it: what happened at each step, one JSON object a line, without times of day, so that
the same run gives the same bytes."""

import os
from pathlib import Path
from typing import Any

from upaya.errors import UserError
from upaya.files import dumps
from upaya.training.steps import processes


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
        """Forget what was written after `offset`. Raises UserError where less than that is there."""
        if processes.rank():
            return
        size = self.path.stat().st_size
        if size < offset:
            raise UserError(
                f"{self.path}: {size} bytes, while its checkpoint remembers {offset}: the file was changed "
                f"or damaged. Remove the folder {self.path.parent} to start this stage over."
            )
        self._file.truncate(offset)
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._file.close()

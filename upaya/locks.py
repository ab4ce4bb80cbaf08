"""One at a time: a lock that ends with the process that holds it, however that ends."""

import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

from upaya.errors import UserError


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as it said itself. Attributes: since: local time, to the second."""

    process: int
    host: str
    since: str

    @classmethod
    def this(cls) -> Self:
        return cls(os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"))

    def __str__(self) -> str:
        where = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.process}{where} since {self.since}"

    @property
    def how_to_stop(self) -> str:
        return f"kill {self.process}" if self.host == socket.gethostname() else f"kill {self.process} on {self.host}"


def hold(path: Path, what: str) -> IO[str]:
    """Take a lock. It is held for as long as the returned file is open: its children do not inherit it.

    Args:
        what: is happening, for the message to whoever comes second, e.g. "lenient is being trained".

    Raises:
        UserError: a living process holds it; says which.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _said(file)
        file.close()
        stop = f", or stop it: {holder.how_to_stop}" if holder else ""
        raise UserError(f"{what} by {holder or 'another process'}; wait for it{stop}") from None
    file.truncate(0)
    file.write(json.dumps(asdict(Holder.this())))
    file.flush()
    return file


def holder(path: Path) -> Holder | None:
    """The living process that holds a lock; None where none does."""
    if not path.is_file():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _said(file)
    return None


def _said(file: IO[str]) -> Holder | None:
    file.seek(0)
    try:
        return Holder(**json.load(file))
    except (ValueError, TypeError):  # it has just taken the lock and not said yet who it is
        return None

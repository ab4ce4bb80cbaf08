"""Errors that a person reads: what is wrong, where, and what to do."""

import difflib
import errno
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LESS_MEMORY = (
    "`upaya plan` shows what takes it; a smaller grpo.tokens_per_micro_batch, gradient_checkpointing, lora or a higher "
    "launch.zero need less."
)

LONGEST = 200  # characters of a name that are shown
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RIGHTS = (
    "Give whoever starts this the right to write and read there, or work in a checkout where they have it; earlier "
    "outputs are untouched"
)
_OTHER_KIND = "A folder stands where a file is expected, or a file where a folder is: move it away, and start again"
CURES = {
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EISDIR: _OTHER_KIND,
    errno.ENOTDIR: _OTHER_KIND,
    errno.EEXIST: _OTHER_KIND,
    errno.ELOOP: "It links to itself: remove the link, and start again",
    errno.ENAMETOOLONG: "Give it a shorter name",
    errno.ENOENT: "Put it there, or take its name out of what asks for it",
    errno.EIO: "The disk or the network behind it fails: look at it, and start again",
    errno.EMFILE: "Too many files are open: raise the limit (`ulimit -n`), and start again",
    errno.ENFILE: "Too many files are open on this machine: end other programs, and start again",
}


class UserError(Exception):
    """A mistake in an input, a parameter or the surroundings. Programs print it without a traceback and exit with 1."""


class Stopped(Exception):
    """A long loop has ended early as it was asked to. Programs print this without a traceback and exit with `code`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, or lists them all: the tail of an error message."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(names)


def in_words(error: BaseException) -> tuple[str, int] | None:
    """The message and exit code of an error that is the user's to mend; None for any other."""
    if isinstance(error, UserError):
        return f"error: {error}", 1
    if isinstance(error, Stopped):
        return str(error), error.code
    if isinstance(error, OSError) and (error.filename is not None or error.errno in FULL):
        return f"error: {_of_file(error)}", 1
    if isinstance(error, ValueError) and str(error).startswith("embedded null"):  # all that Python says of it
        return "error: the name of a file or folder holds a NUL character: take it out of params/ or the command", 1
    if type(error).__module__ == "sqlite3":  # which this module does without too; its errors name no file
        return (
            f"error: a database of DVC's or MLflow's ({error}): the disk is full, a limit on files is reached (`ulimit "
            "-f`), it cannot be written here, or it is damaged. Earlier outputs are untouched; `upaya doctor` looks at "
            "both."
        ), 1
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which this module does without
        return f"error: no memory left: {str(error).splitlines()[0]} {LESS_MEMORY}", 1
    return None


def _of_file(error: OSError) -> str:
    """What the system says of a file or folder, and what to do."""
    where, said = error.filename2 or error.filename, error.strerror
    if error.errno in FULL:
        return (
            f"no disk space left{f' while writing {where}' if where else ''} ({said}). Nothing was left half-written "
            "and earlier outputs are untouched: free some space, or raise a limit on files (`ulimit -f`), and start "
            "again."
        )
    cure = CURES.get(error.errno or 0, "Look at what stands there")
    return f"{str(where)[:LONGEST]}{' cannot be written or read here' if cure is _RIGHTS else ''}: {said}. {cure}."


@contextmanager
def shown_to_user() -> Iterator[None]:
    """Turn the errors that are the user's to mend into one message on stderr and an exit code."""
    try:
        yield
    except Exception as error:
        said = in_words(error)
        if said is None:
            raise
        print(said[0], file=sys.stderr)
        raise SystemExit(said[1]) from None

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
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = f" while writing {error.filename}" if error.filename else ""
        return (
            f"error: no disk space left{where}. Nothing was left half-written and earlier outputs are untouched: free "
            "some space and start again."
        ), 1
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"error: {error.filename or 'a file'} cannot be written or read here: {error.strerror}. Give whoever "
            "starts this the right to, or work in a checkout where they have it; earlier outputs are untouched."
        ), 1
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which this module does without
        return f"error: no memory left: {str(error).splitlines()[0]} {LESS_MEMORY}", 1
    return None


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

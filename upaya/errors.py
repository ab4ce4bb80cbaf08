"""Errors that a person reads: what is wrong, where, and what to do."""

import difflib
import errno
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


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


@contextmanager
def shown_to_user() -> Iterator[None]:
    """Turn the errors that are the user's to mend into one message on stderr and exit code 1."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(stopped.code) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        print(
            f"error: no disk space left{f' while writing {error.filename}' if error.filename else ''}. "
            "Nothing was left half-written and earlier outputs are untouched: free some space and start again.",
            file=sys.stderr,
        )
        raise SystemExit(1) from None

"""Whose a report is: its file is called after what it is of, and says so itself."""

from pathlib import Path

from upaya.records.reading import damaged


def need_name(path: Path, key: str, found: str, expected: str, maker: str) -> None:
    """Raises UserError where a file says that it is of something else than it is called after.

    Args:
        key: where it says so.
        maker: the command that makes the file, for the message.
    """
    if found != expected:
        raise damaged(path, None, f"key {key!r}: it is {found!r}, and {expected!r} is due", maker)

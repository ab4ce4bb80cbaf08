"""Seconds that each stage took when a flow last ran it."""

from upaya.errors import UserError
from upaya.paths import TIMES
from upaya.records.reading import read_file


def stage_seconds() -> dict[str, float]:
    """By the stage's address. Nothing where there is none yet, or it is damaged: nobody needs it, and the next stage
    that runs begins it anew."""
    try:
        return read_file(TIMES, dict[str, float], "a flow")
    except (UserError, OSError):
        return {}

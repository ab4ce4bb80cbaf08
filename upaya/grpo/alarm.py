"""The collapse alarm: entropy or length falling off a cliff, from one window of steps to the next."""

from typing import Any

from pydantic import Field

from upaya.grpo.switching import RunningStatistics
from upaya.validation import Declared

WATCHED = {"entropy": "entropy", "completion_length": "completion length"}


class Alarm(Declared):
    """Sounds when the mean over `window` steps is less than `falls_to` of that over the `window` steps before, and is
    then silent for two windows. Training goes on: the event is for whoever looks.

    A healthy run of the default questions never falls below 0.7 from ten steps to the next ten.
    """

    window: int = Field(default=10, gt=0)
    falls_to: float = Field(default=0.5, gt=0, lt=1)


def collapses(alarm: Alarm, statistics: RunningStatistics) -> list[dict[str, Any]]:
    """The alarms of the step that the statistics end with, as events without their step."""
    found = []
    for name, called in WATCHED.items():
        if _has_fallen(alarm, statistics, name, 0) and not any(
            _has_fallen(alarm, statistics, name, ago) for ago in range(1, 2 * alarm.window)
        ):
            now = statistics.mean(name, alarm.window)
            before = statistics.mean(name, alarm.window, before=alarm.window)
            assert now is not None and before is not None
            condition = f"{called} fell from {before:.3g} to {now:.3g} within {alarm.window} steps"
            found.append({"event": "alarm", "of": name, "condition": condition, "value": round(now / before, 6)})
    return found


def _has_fallen(alarm: Alarm, statistics: RunningStatistics, name: str, ago: int) -> bool:
    now = statistics.mean(name, alarm.window, before=ago)
    before = statistics.mean(name, alarm.window, before=ago + alarm.window)
    return now is not None and before is not None and now < alarm.falls_to * before

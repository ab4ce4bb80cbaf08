"""The collapse alarm: entropy or length falling off a cliff, from one window of steps to the next."""

from typing import Any

from upaya.declared.grpo import Alarm
from upaya.training.grpo.switching import RunningStatistics

WATCHED = {"entropy": "entropy", "completion_length": "completion length"}


def collapses(alarm: Alarm, statistics: RunningStatistics) -> list[dict[str, Any]]:
    """The alarms of the step that the statistics end with, as events without their step."""
    alarms = []
    for name, called in WATCHED.items():
        if _has_fallen(alarm, statistics, name, 0) and not any(
            _has_fallen(alarm, statistics, name, ago) for ago in range(1, 2 * alarm.window)
        ):
            now = statistics.mean(name, alarm.window)
            before = statistics.mean(name, alarm.window, before=alarm.window)
            assert now is not None and before is not None
            condition = f"{called} fell from {before:.3g} to {now:.3g} within {alarm.window} steps"
            alarms.append({"event": "alarm", "of": name, "condition": condition, "value": round(now / before, 6)})
    return alarms


def _has_fallen(alarm: Alarm, statistics: RunningStatistics, name: str, ago: int) -> bool:
    now = statistics.mean(name, alarm.window, before=ago)
    before = statistics.mean(name, alarm.window, before=ago + alarm.window)
    return now is not None and before is not None and now < alarm.falls_to * before

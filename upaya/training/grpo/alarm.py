"""Alarms: what a curriculum can fall ill with, as events that say what to do."""

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from upaya.declared.grpo import Alarm
from upaya.training.grpo.switching import RunningStatistics

WATCHED = {  # in a step's record → what it is called, and what to do when it falls
    "entropy": ("entropy", "A lower learning rate, or `entropy` in the regime, keeps answers open"),
    "completion_length": ("completion length", "Look at what is said (`upaya ask`): saying little may pay"),
    "format_rate": (
        "format rate",
        "A penalty for `malformed`, more weight for `format`, less `entropy` or a lower temperature keeps the form",
    ),
}


def collapses(alarm: Alarm, statistics: RunningStatistics) -> list[dict[str, Any]]:
    """Entropy, length or form falling off a cliff: the alarms of the step that the statistics end with, as events
    without their step."""
    alarms = []
    for name, (called, advice) in WATCHED.items():
        if _has_fallen(alarm, statistics, name, 0) and not any(
            _has_fallen(alarm, statistics, name, ago) for ago in range(1, 2 * alarm.window)
        ):
            now = statistics.mean(name, alarm.window)
            before = statistics.mean(name, alarm.window, before=alarm.window)
            assert now is not None and before is not None
            condition = f"{called} fell from {before:.3g} to {now:.3g} within {alarm.window} steps. {advice}"
            alarms.append(_event(name, condition, now / before))
    return alarms


def _has_fallen(alarm: Alarm, statistics: RunningStatistics, name: str, ago: int) -> bool:
    now = statistics.mean(name, alarm.window, before=ago)
    before = statistics.mean(name, alarm.window, before=ago + alarm.window)
    return now is not None and before is not None and now < alarm.falls_to * before


class Health:
    """Looks for skills that stay behind, for regression and for stagnation, each of which sounds once in a stage, and
    for a gap between training prompts and validation questions, which sounds when it grows; for partial credit that
    has no slope. Holds what a checkpoint needs."""

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        self.sounded: set[str] = set()
        self.best = 0.0  # success over the best window yet
        self.skills: dict[str, list[float]] = {}  # of the window being filled: each step's success
        self.steps = 0
        self.measured: list[tuple[float, float]] = []  # success on training prompts, on validation questions
        self.gap = 0.0  # when it last sounded
        self.dead: list[tuple[float, float]] = []  # of the first steps: as trained, under strict

    def look(self, skills: Mapping[str, float], statistics: RunningStatistics) -> list[dict[str, Any]]:
        """The alarms of a step, as events without their step. Args: skills: their success in this step's rollouts."""
        for name, value in skills.items():
            self.skills.setdefault(name, []).append(value)
        self.steps += 1
        if self.steps % self.alarm.health_window:
            return []
        shares = {name: sum(values) / len(values) for name, values in self.skills.items()}
        self.skills = {}
        return self._unlearnt(shares) + self._success(statistics)

    def compare(self, training: float, validation: float) -> list[dict[str, Any]]:
        """The alarm of a step that measured success on validation questions, as an event without its step."""
        self.measured = [*self.measured, (training, validation)][-self.alarm.gap_over :]
        count = len(self.measured)
        training, validation = (sum(values) / count for values in zip(*self.measured, strict=True))
        gap = training - validation
        if gap <= self.gap + self.alarm.gap * math.sqrt(self.alarm.gap_over / count):
            return []
        self.gap = gap
        over = f"means of {count} measurements" if count > 1 else "one measurement"
        return [
            _event(
                "gap",
                f"strict success is {training:.1%} on training prompts and {validation:.1%} on validation questions "
                f"({over}): prompts are learnt by heart. More training questions or a shorter lenient stage "
                "(`max_steps`) help; `until: {type: success_rate, on: validation, …}` hands over by what is learnt",
                gap,
            )
        ]

    def slope(self, trained_live: float, strict_live: float) -> list[dict[str, Any]]:
        """The alarm of a stage that is trained under another regime than strict, at the end of its first steps.

        Args:
            trained_live, strict_live: shares of the step's groups that are live as trained, and under strict.
        """
        if len(self.dead) == self.alarm.window:
            return []
        self.dead.append((1 - trained_live, 1 - strict_live))
        if len(self.dead) < self.alarm.window:
            return []
        trained, strict = (sum(shares) / len(shares) for shares in zip(*self.dead, strict=True))
        if trained < self.alarm.dead_alike_from or strict - trained > self.alarm.dead_alike:
            return []
        return self._once(
            "slope",
            f"{trained:.0%} of the groups are dead as trained, and {strict:.0%} under strict: partial credit has no "
            "slope on these questions, and lenient is strict by another name. `upaya audit` says which components have "
            "one",
            strict - trained,
        )

    def _unlearnt(self, shares: Mapping[str, float]) -> list[dict[str, Any]]:
        middle, alarm = median(shares.values()), self.alarm
        if middle < alarm.while_others:
            return []
        return [
            event
            for name, share in sorted(shares.items())
            if share < alarm.unlearnt
            for event in self._once(
                f"skill/{name}",
                f"{name} is right in {share:.1%} over {alarm.health_window} steps while the median skill is in "
                f"{middle:.1%}: it may be frozen. A lower `punishment`, `credit: item`, `entropy` or a longer warm-up "
                "(warmup.until.worst) free it",
                share,
            )
        ]

    def _success(self, statistics: RunningStatistics) -> list[dict[str, Any]]:
        window, alarm = self.alarm.health_window, self.alarm
        now = statistics.mean("success", window)
        before = statistics.mean("success", window, before=2 * window)
        assert now is not None
        events = []
        if now < alarm.regresses_to * self.best:
            events += self._once(
                "regression",
                f"strict success fell from {self.best:.1%} to {now:.1%} (means of {window} steps). A lower learning "
                "rate, a later switch or a lower `punishment` may keep it",
                now / self.best,
            )
        elif before is not None and now < alarm.stands_below and abs(now - before) < alarm.gain:
            events += self._once(
                "stagnation",
                f"strict success stands at {now:.1%}, {now - before:+.1%} within {2 * window} steps. `upaya probe` "
                "says what is out of reach; an earlier or later switch may help",
                now,
            )
        self.best = max(self.best, now)
        return events

    def _once(self, of: str, condition: str, value: float) -> list[dict[str, Any]]:
        if of in self.sounded:
            return []
        self.sounded.add(of)
        return [_event(of, condition, value)]

    def state_dict(self) -> dict[str, Any]:
        return {
            "sounded": sorted(self.sounded),
            "best": self.best,
            "skills": self.skills,
            "steps": self.steps,
            "measured": self.measured,
            "gap": self.gap,
            "dead": self.dead,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sounded, self.best, self.steps = set(state["sounded"]), state["best"], state["steps"]
        self.skills = {name: list(values) for name, values in state["skills"].items()}
        self.measured, self.gap = [(training, held) for training, held in state["measured"]], state["gap"]
        self.dead = [(trained, strict) for trained, strict in state["dead"]]


def _event(of: str, condition: str, value: float) -> dict[str, Any]:
    return {"event": "alarm", "of": of, "condition": condition, "value": round(value, 6)}

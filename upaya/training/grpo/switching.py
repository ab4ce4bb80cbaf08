"""When a stage hands over: conditions on the running statistics of its rollouts."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from upaya.declared.grpo import Alarm, AllOf, AnyOf, Condition, LiveShare, Plateau, Steps, SuccessRate
from upaya.declared.validation import Declared


class Fired(Declared):
    """Which condition fired, and the value that it saw."""

    condition: str
    value: float

    @model_validator(mode="after")
    def value_is_a_number(self) -> Self:
        if self.value != self.value:
            raise ValueError("a condition fired on NaN")
        return self


class RunningStatistics:
    """What conditions look at: a series of values, one per step of the stage. Holds everything a checkpoint needs.

    Series: `success`, `reward` (as trained on), `live/<regime>` and what the alarms watch. Beside them success on
    validation questions, which only some steps measure.
    """

    def __init__(self, longest_window: int) -> None:
        """Args: longest_window: steps that the longest question reaches back (`reach`)."""
        self.steps = 0
        self.longest_window = longest_window
        self.series: dict[str, deque[float]] = {}
        self.validation: list[tuple[int, float]] = []  # (step of the stage, success)

    def update(self, values: Mapping[str, float], validation: float | None = None) -> None:
        """Args: validation: success on validation questions, at a step that measures it."""
        self.steps += 1
        for name, value in values.items():
            self.series.setdefault(name, deque(maxlen=self.longest_window)).append(value)
        if validation is not None:
            self.validation = [*self._validation_of(self.longest_window), (self.steps, validation)]

    def mean(self, name: str, window: int, before: int = 0) -> float | None:
        """The mean over `window` steps up to `before` steps ago, or None before there are as many."""
        values = list(self.series.get(name, ()))
        end = len(values) - before
        return sum(values[end - window : end]) / window if end >= window else None

    def validation_mean(self, window: int) -> float | None:
        """The mean of the measurements of the last `window` steps, the last one where there was none among them; None
        before there are as many steps, or any measurement."""
        if self.steps < window or not self.validation:
            return None
        values = [value for _, value in self._validation_of(window) or self.validation[-1:]]
        return sum(values) / len(values)

    def _validation_of(self, window: int) -> list[tuple[int, float]]:
        return [(step, value) for step, value in self.validation if step > self.steps - window]

    def state_dict(self) -> dict[str, Any]:
        series = {name: list(values) for name, values in self.series.items()}
        return {"steps": self.steps, "series": series, "validation": self.validation}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.validation = state["steps"], [(step, value) for step, value in state["validation"]]
        self.series = {name: deque(values, maxlen=self.longest_window) for name, values in state["series"].items()}


def reach(condition: Condition | None, alarm: Alarm) -> int:
    """How many steps back a condition and the alarm look."""
    alarmed = max(4 * alarm.window, 3 * alarm.health_window)
    match condition:
        case SuccessRate(window=window) | LiveShare(window=window):
            return max(alarmed, window)
        case Plateau(window=window):
            return max(alarmed, 2 * window)
        case AnyOf(of=parts) | AllOf(of=parts):
            return max(reach(part, alarm) for part in parts)
    return alarmed


def fired(condition: Condition, statistics: RunningStatistics) -> Fired | None:
    """The condition with its value where it holds now, else None."""
    match condition:
        case SuccessRate(threshold=threshold, window=window, on=on):
            unseen = on == "validation"
            rate = statistics.validation_mean(window) if unseen else statistics.mean("success", window)
            if rate is not None and rate >= threshold:
                of = "strict success on validation questions" if unseen else "strict success"
                return _fired(f"{of} over {window} steps ≥ {threshold:g}", rate)
        case LiveShare(regime=regime, threshold=threshold, window=window):
            share = statistics.mean(f"live/{regime}", window)
            if share is not None and share >= threshold:
                return _fired(f"live groups under {regime} over {window} steps ≥ {threshold:g}", share)
        case Plateau(gain=gain, window=window):
            now, before = statistics.mean("reward", window), statistics.mean("reward", window, before=window)
            if now is not None and before is not None and now - before < gain:
                return _fired(
                    f"reward rose by less than {gain:g} from {window} steps to the next {window}", now - before
                )
        case Steps(steps=steps):
            if statistics.steps >= steps:
                return _fired(f"steps ≥ {steps}", statistics.steps)
        case AnyOf(of=parts):
            return next((result for part in parts if (result := fired(part, statistics))), None)
        case AllOf(of=parts):
            held = [result for part in parts if (result := fired(part, statistics))]
            if len(held) == len(parts):
                return Fired(condition=" and ".join(part.condition for part in held), value=held[0].value)
    return None


def _fired(condition: str, value: float) -> Fired:
    return Fired(condition=condition, value=round(value, 6))

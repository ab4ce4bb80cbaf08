"""When a stage hands over: conditions on the running statistics of its rollouts."""

from collections import deque
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from upaya.validation import Declared


class SuccessRate(Declared):
    """Fires when the share of exactly right completions, averaged over the last `window` steps, reaches `threshold`."""

    type: Literal["success_rate"]
    threshold: float = Field(gt=0, le=1)
    window: int = Field(default=10, gt=0)


class Steps(Declared):
    """Fires after `steps` steps of this stage."""

    type: Literal["steps"]
    steps: int = Field(gt=0)


class AnyOf(Declared):
    """Fires when one of the conditions does."""

    type: Literal["any"]
    of: list["Condition"] = Field(min_length=1)


class AllOf(Declared):
    """Fires when all of the conditions do, at the same step."""

    type: Literal["all"]
    of: list["Condition"] = Field(min_length=1)


Condition = Annotated[SuccessRate | Steps | AnyOf | AllOf, Field(discriminator="type")]


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
    """What conditions look at: one success rate per step of the stage. Holds everything that a checkpoint needs."""

    def __init__(self, longest_window: int = 1000) -> None:
        self.steps = 0
        self.success: deque[float] = deque(maxlen=longest_window)

    def update(self, success: float) -> None:
        self.steps += 1
        self.success.append(success)

    def success_rate(self, window: int) -> float | None:
        """The mean over the last `window` steps, or None before there are as many."""
        if len(self.success) < window:
            return None
        return sum(list(self.success)[-window:]) / window

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "success": list(self.success)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.success = deque(state["success"], maxlen=self.success.maxlen)


def fired(condition: Condition, statistics: RunningStatistics) -> Fired | None:
    """The condition with its value where it holds now, else None."""
    match condition:
        case SuccessRate():
            rate = statistics.success_rate(condition.window)
            if rate is not None and rate >= condition.threshold:
                text = f"strict success over {condition.window} steps ≥ {condition.threshold:g}"
                return Fired(condition=text, value=round(rate, 6))
        case Steps():
            if statistics.steps >= condition.steps:
                return Fired(condition=f"steps ≥ {condition.steps}", value=statistics.steps)
        case AnyOf():
            return next((found for part in condition.of if (found := fired(part, statistics))), None)
        case AllOf():
            held = [fired(part, statistics) for part in condition.of]
            all_held = [part for part in held if part]
            if len(all_held) == len(held):
                return Fired(condition=" and ".join(part.condition for part in all_held), value=all_held[0].value)
    return None

"""reports/compare/arms.json: the arms of the comparison side by side, and what the probe predicted of them."""

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from upaya.paths import COMPARISON
from upaya.records.reading import Count, Interval, read_file, written

MAKER = "`make compare`"


@written
class SwitchedTo(TypedDict):
    step: float
    to: str


@written
class Row(TypedDict):
    """What one arm came to. Attributes: tokens_to_milestone: None where it was never reached."""

    arm: str
    strict_accuracy: float
    strict_accuracy_interval: Interval
    seed: int
    pass_at_8: NotRequired[float]
    format_rate: NotRequired[float]
    total_steps: Count
    generated_tokens: Count
    tokens_to_milestone: float | None
    rewarded_wrong: float | None
    end_entropy: float
    end_success: float
    switches: list[SwitchedTo]


@written
class Compared(Row):
    """A row beside others: what it is behind the best, paired by question."""

    behind_best: float
    behind_best_interval: Interval


@written
class Check(TypedDict):
    """Shares of dead groups in an arm's first steps: what the probe predicted, and what was seen."""

    arm: str
    regime: str
    first_steps: Count
    predicted: float
    predicted_interval: Interval
    observed: float
    observed_interval: Interval
    agree: bool


@written
class Comparison(TypedDict):
    arms: Annotated[list[Compared], Field(min_length=1)]
    probe: list[Check]


def comparison() -> Comparison:
    """Raises UserError where `make compare` has not run, or its file is damaged."""
    return read_file(COMPARISON / "arms.json", Comparison, MAKER)

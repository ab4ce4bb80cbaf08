"""results/: what a policy can do on questions that no training has seen."""

from itertools import pairwise
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from upaya.paths import RESULTS
from upaya.records.naming import need_name
from upaya.records.reading import Count, Interval, damaged, finite, flow, read_file, read_lines, read_rows

WORDS = ("trained_on", "switch")  # columns of curve.csv that hold no number

# PEP 728, which mypy does not know yet: what else a file holds, by the names of regimes and of numbers of samples.


@finite
class Measures(TypedDict, extra_items=float | Interval):  # type: ignore[call-arg]
    """Means over questions, with their intervals; reward/<regime>, dead/<regime> and pass_at_<k> beside these."""

    strict_accuracy: float
    strict_accuracy_interval: Interval
    format_rate: float
    contrast: float
    pass_at_1: NotRequired[float]
    pass_at_8: NotRequired[float]


@finite
class Counted(Measures):
    n_questions: Count


@finite
class Details(Counted):
    """What details.json holds: each measure over all questions, by kind, skill and wording."""

    policy: str
    seed: int
    total_steps: Count
    generated_tokens: Count
    kinds: dict[str, Measures]
    skills: dict[str, float]
    wordings: dict[Literal["trained", "held_out"], Measures]
    also: NotRequired[dict[str, Counted]]


@finite
class Sample(TypedDict, extra_items=float):  # type: ignore[call-arg]
    """A completion of an evaluation; its reward/<regime> beside these."""

    id: str
    kind: str
    decoding: Literal["greedy", "sampled"]
    prompt: str
    gold: str
    completion: str
    exact: bool


@finite
class Point(TypedDict, extra_items=float | None):  # type: ignore[call-arg]
    """A row of curve.csv: a step since the warm-up; empty cells are None. <regime>_live and others beside these."""

    step: float
    generated_tokens: float
    trained_on: str
    success: float
    entropy: float
    switch: str
    trained_rewarded_wrong: float | None


def details_of(policy: str) -> Details:
    """results/<policy>/details.json. Raises UserError where the policy is not evaluated, or the file is
    damaged."""
    path, maker = RESULTS / policy / "details.json", flow(policy)
    details = read_file(path, Details, maker)
    need_name(path, "policy", details["policy"], policy, maker)
    return details


def samples_of(policy: str) -> list[Sample]:
    """results/<policy>/samples.jsonl. Raises UserError where it is missing or damaged."""
    path = RESULTS / policy / "samples.jsonl"
    samples = read_lines(path, Sample, flow(policy))
    if not samples:
        raise damaged(path, None, "it is empty", flow(policy))
    return samples


def greedy_of(policy: str) -> dict[str, Sample]:
    """Question id → the greedy completion. Errors as `samples_of`."""
    return {sample["id"]: sample for sample in samples_of(policy) if sample["decoding"] == "greedy"}


def curve_of(policy: str) -> list[Point]:
    """The rows of results/<policy>/curve.csv. Raises UserError where it is missing or damaged, or its
    steps do not follow each other."""
    path, maker = RESULTS / policy / "curve.csv", flow(policy)
    rows = read_rows(path, Point, maker, WORDS)
    for line, (before, after) in enumerate(pairwise(rows), start=3):
        if after["step"] != before["step"] + 1:
            raise damaged(path, line, f"key 'step': {after['step']:g} after {before['step']:g}", maker)
    return rows

"""history.jsonl and rollouts.jsonl: what happened at each step of a policy's training, and groups that were kept."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, NotRequired, cast

from pydantic import AfterValidator, Discriminator, Field, Tag
from typing_extensions import TypedDict

from upaya.paths import HISTORY, ORIGIN, POLICIES, ROLLOUTS
from upaya.records.policies import START, line_of, need_as_told, provenance
from upaya.records.reading import Count, damaged, flow, read_lines, written

Numbers = dict[str, float]
Fate = Literal["live", "dead_all_wrong", "dead_all_right"]


@written
class Under(TypedDict):
    """A step's groups under one reward."""

    reward: float
    live: float
    dead_all_wrong: float
    dead_all_right: float
    rewarded_wrong: float | None


@written
class Component(TypedDict):
    """Over a step's completions."""

    mean: float
    spread: float


@written
class Measured(TypedDict):
    """What a step's rollouts look like (upaya/training/completions/measures.py)."""

    success: float
    skills: Numbers
    format_rate: float
    dropped_mass: float
    entropy: float
    completion_length: float
    truncated: float
    regimes: dict[str, Under]
    components: dict[str, Component]


@written
class Shares(TypedDict):
    """Attributes: regime: where between the first and the last measured it is. weight: of each regime trained on."""

    regime: float
    weight: Numbers


@written
class Validation(TypedDict):
    """Success on validation questions, and by how much that on training prompts exceeds it."""

    success: float
    gap: float


@written
class Step(Measured):
    """A step of GRPO, counted from the warm-up."""

    step: Count
    regime: str
    curriculum: Shares
    trained: Under
    hinted_items: NotRequired[float]
    generated_tokens: Count
    validation: NotRequired[Validation]
    update: NotRequired[dict[str, float | None] | None]


@written
class Scored(Measured):
    """A measurement of the warm-up."""

    score: float


@written
class SupervisedStep(TypedDict):
    """A step of pre-training or warm-up."""

    step: Count
    loss: float
    grad_norm: float
    validation: NotRequired[Scored]


@written
class Handover(TypedDict):
    event: Literal["handover"]
    step: Count
    regime: str
    condition: str
    value: float


@written
class Alarm(TypedDict):
    event: Literal["alarm"]
    of: str
    step: Count
    condition: str
    value: float


@written
class Refill(TypedDict):
    event: Literal["refill"]
    step: Count
    condition: str
    value: None


Switch = TypedDict(
    "Switch",
    {"event": Literal["switch"], "step": Count, "from": str, "to": str, "condition": str, "value": float | None},
)
written(Switch)
Event = Annotated[Switch | Handover | Alarm | Refill, Field(discriminator="event")]


def _kind(line: Any) -> str:
    """What stands in a line. No key of one is called like any of these."""
    known = line if isinstance(line, dict) else {}
    return "an event" if "event" in known else "of SFT" if "loss" in known else "of GRPO"


Line = Annotated[
    Annotated[Step, Tag("of GRPO")] | Annotated[SupervisedStep, Tag("of SFT")] | Annotated[Event, Tag("an event")],
    Discriminator(_kind),
]


@written
class Completion(TypedDict):
    """Attributes: items: said in each place of the right answer. hits: whether that is right. advantages: by part of
    the answer."""

    text: str
    answer: str | None
    items: list[str | None]
    hits: list[bool]
    exact: bool
    components: Numbers
    rewards: Numbers
    tokens: Count
    finished: bool
    advantages: Numbers


@written
class _Group(TypedDict):
    step: Count
    question: str
    prompt: str
    right: Any
    trained: Literal["live", "dead"]
    fates: dict[str, Fate]
    completions: list[Completion]


def _agrees(group: _Group) -> _Group:
    for completion in group["completions"]:
        if completion["rewards"].keys() != group["fates"].keys():
            raise ValueError("a completion's rewards are of other regimes than the group's fates")
        if len(completion["items"]) != len(completion["hits"]):
            raise ValueError("a completion has not as many items as hits")
    return group


Group = Annotated[_Group, AfterValidator(_agrees)]  # of rollouts.jsonl (upaya/training/grpo/kept.py)


def history_of(policy: str) -> list[dict[str, Any]]:
    """The lines of a built policy's history, each a `Line`. Raises UserError where the file is missing or damaged,
    holds other steps than the policy took, one after the other, or is not the one that was written."""
    path, origin = POLICIES / policy / HISTORY, provenance(policy)
    lines = cast(list[dict[str, Any]], read_lines(path, cast(Any, Line), flow(policy)))
    step = origin.get("first_step", 0)
    last = step + origin["steps"]
    for number, record in enumerate(lines, start=1):
        step += "event" not in record
        if record["step"] != step:
            raise damaged(path, number, f"key 'step': it is {record['step']}, and {step} is due", flow(policy))
    if step != last:
        told = f"it ends with step {step}, and {POLICIES / policy / ORIGIN} says {last}"
        raise damaged(path, len(lines), told, flow(policy))
    need_as_told(policy, HISTORY, origin["files"].get(HISTORY))  # after what names a line
    return lines


def histories_of(policy: str) -> list[list[dict[str, Any]]]:
    """The histories of GRPO that led to a built policy, in their order; none of one that is before it. Raises UserError
    as `history_of` does, and where one begins at another step than its parent ended at."""
    line = line_of(policy)
    for parent, child in pairwise(line[len(START) - 1 :]):
        begins, ends = provenance(child)["first_step"], provenance(parent)["total_steps"]
        if begins != ends:
            told = f"key 'first_step': it is {begins}, and {parent} ends with step {ends}"
            raise damaged(POLICIES / child / ORIGIN, None, told, flow(child))
    return [history_of(each) for each in line[len(START) :]]


def rollouts_of(policy: str) -> list[dict[str, Any]]:
    """The groups that were kept of a built policy's training, each a `Group`; none where it was not trained by GRPO.
    Raises UserError where the file is damaged, or not the one that was written."""
    path, told = POLICIES / policy / ROLLOUTS, provenance(policy)["files"]
    if ROLLOUTS not in told:
        return []
    groups = cast(list[dict[str, Any]], read_lines(path, cast(Any, Group), flow(policy)))
    need_as_told(policy, ROLLOUTS, told[ROLLOUTS])  # after what names a line
    return groups


def event_text(event: Mapping[str, Any]) -> str:
    """An event of a history in words: what happened at which step, and why."""
    value = f" (it was {event['value']:.3f})" if event["value"] is not None else ""
    why = f"{event['condition']}{value}"
    if event["event"] == "switch":
        return f"{event['from']} → {event['to']} at step {event['step']}: {why}"
    said = {"handover": "hands over", "alarm": "ALARM", "refill": "refill"}[event["event"]]
    return f"{said} at step {event['step']}: {why}"

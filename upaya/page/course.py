"""What the page says of one curriculum, from the files that its stages wrote."""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Self

from pydantic import model_validator
from typing_extensions import TypedDict

from upaya.corpus.answers import Form, items, parse, render
from upaya.corpus.questions import Question, read_split
from upaya.declared.validation import Declared, read_yaml
from upaya.errors import UserError
from upaya.files import write_json
from upaya.paths import COURSES, DATA_POINTER, QUESTIONS
from upaya.records.baselines import accuracies_of
from upaya.records.evaluations import Details, details_of, greedy_of
from upaya.records.histories import Fate, event_text, histories_of, rollouts_of
from upaya.records.naming import need_name
from upaya.records.policies import START, line_of, provenance
from upaya.records.reading import read_file, written
from upaya.records.throughput import Part, rates, throughput_of

POINTS = 400  # of a curve: more cannot be told apart on a screen
DIGITS = 4
FATES = ("live", "dead_all_wrong", "dead_all_right")
COLUMNS = (
    *("step", "generated_tokens", "success", "validation", "entropy", "rewarded_wrong"),
    *(f"{under}/{fate}" for under in ("trained", "strict") for fate in FATES),
)
BEFORE = "warmup"


class Took(Declared):
    """Where a stage's time went: seconds of all its steps, and by part the share and the tokens that went through it in
    a second of it."""

    seconds: float
    share: dict[Part, float]
    tokens_per_second: dict[Part, float]


class Stage(Declared):
    """One policy of the line, from base on.

    Attributes:
        steps: of its own.
        declared: its own keys in params/curricula.yaml, flat; none of base and warm-up. reward: those of its regime.
        made_from: what is hashed → hash. weights: file → SHA-256.
        took: None where that is not known, or no step was taken.
    """

    name: str
    regime: str | None
    steps: int
    declared: dict[str, Any]
    reward: dict[str, Any]
    made_from: dict[str, str]
    weights: dict[str, str]
    took: Took | None


class Answered(Declared):
    """A question that no training has seen, the items of its right answer, and what was said greedily in the place of
    each, before and after."""

    question: str
    prompt: str
    prompt_traditional: str
    right: list[str]
    before: list[str | None]
    after: list[str | None]


class Cheaply(Declared):
    """What can be right of a kind of questions, or of one difficulty of it, without knowing anything: by the best rule,
    and beside it the strict accuracy before and after; None where it was not measured."""

    rule: str
    accuracy: float
    before: float | None
    after: float | None


@written
class Said(TypedDict):
    """A completion of a kept group, as the page shows it. Attributes: text: None where it has an answer."""

    text: str | None
    items: list[str | None]
    hits: list[bool]
    exact: bool
    malformed: bool
    rewards: dict[str, float]
    advantages: dict[str, float]


@written
class Shown(TypedDict):
    """A kept group, as the page shows it."""

    step: int
    question: str
    prompt: str
    right: Any
    trained: Literal["live", "dead"]
    fates: dict[str, Fate]
    completions: list[Said]


Switched = TypedDict("Switched", {"step": int, "from": str, "to": str})
Points = list[float | None]


class Course(Declared):
    """A curriculum from the warm-up to its end.

    Attributes:
        data: the hash of the corpus, as data.dvc has it.
        columns: a value per point, None where a stage did not measure it: `step`, `generated_tokens`, `success`,
            `validation` (success on validation questions), `entropy`, `rewarded_wrong`, `regime/NAME` (its weight), and
            shares of groups, `trained/FATE` and `strict/FATE`. Points are steps, or means over as many steps as keep
            them within POINTS.
        skills: skill → how often its part of the answer was right, at each point.
        before, after: the evaluations of the warm-up and of the policy.
        cheaply: the questions that the policy was evaluated on, by the names that questions/report.json has for them;
            nothing where it states no baselines.
        groups: kept groups, as rollouts.jsonl has them, thinned.
    """

    name: str
    seed: int
    data: str
    stages: list[Stage]
    columns: dict[str, Points]
    skills: dict[str, Points]
    switches: list[Switched]
    events: list[str]
    before: Details
    after: Details
    cheaply: dict[str, Cheaply]
    example: Answered | None
    groups: list[Shown]

    @model_validator(mode="after")
    def columns_are_all_there(self) -> Self:
        if missing := [name for name in COLUMNS if name not in self.columns]:
            raise ValueError(f"columns: no {missing[0]!r}")
        if len({len(points) for points in (*self.columns.values(), *self.skills.values())}) > 1:
            raise ValueError("columns and skills have not all as many points")
        return self

    @classmethod
    def of(cls, name: str, groups: int) -> Self:
        """Of a policy that is built and evaluated. Args: groups: at most as many are taken over, evenly from all steps.

        Raises UserError where a file is missing or damaged.
        """
        line = line_of(name)
        records = [record for history in histories_of(name) for record in history]
        steps = [record for record in records if "event" not in record]
        events = [record for record in records if "event" in record]
        kept = [group for each in line[len(START) :] for group in rollouts_of(each)]
        before, after = details_of(BEFORE), details_of(name)
        return cls(
            name=name,
            seed=provenance(name)["seed"],
            data=_data(),
            stages=[_stage(each) for each in line],
            columns=_columns(steps),
            skills=_skills(steps),
            switches=[
                {"step": event["step"], "from": event["from"], "to": event["to"]}
                for event in events
                if event["event"] == "switch"
            ],
            events=[event_text(event) for event in events],
            before=before,
            after=after,
            cheaply=_cheaply(name, before, after),
            example=_example(name),
            groups=[_shortened(group) for group in _spread(kept, groups)],
        )

    def write(self) -> None:
        """reports/courses/<policy>.json, which a page over several curricula is made from."""
        write_json(COURSES / f"{self.name}.json", self.model_dump(mode="json"))

    @classmethod
    def read(cls, name: str) -> Self:
        """Raises UserError where the file is missing, damaged or another curriculum's."""
        path, maker = COURSES / f"{name}.json", f"`dvc repro arm@{name}`"
        course = read_file(path, cls, maker)
        need_name(path, "name", course.name, name, maker)
        return course


def _data() -> str:
    match read_yaml(DATA_POINTER):
        case {"outs": [{"md5": str(found)}]}:
            return found
    raise UserError(f"{DATA_POINTER}: no hash of one folder under `outs`; `dvc repro {DATA_POINTER}` writes it")


def _stage(name: str) -> Stage:
    origin = provenance(name)
    params = origin["params"]
    return Stage(
        name=name,
        regime=origin["regime"],
        steps=origin["steps"],
        declared=_flat(params.get("policy", {})),
        reward=_flat(params.get("reward", {})) if origin["regime"] else {},
        made_from=origin["made_from"],
        weights=origin["weights"],
        took=_took(name),
    )


def _took(name: str) -> Took | None:
    lines = throughput_of(name)
    if not lines:
        return None
    seconds = sum(sum(line["seconds"].values()) for line in lines)
    return Took(seconds=seconds, **rates(lines))


def _flat(declared: Any, prefix: str = "") -> dict[str, Any]:
    """Nested keys and places joined by dots, without those that hold nothing."""
    if isinstance(declared, Mapping):
        inner = [(str(key).rstrip("_"), value) for key, value in declared.items()]
    elif isinstance(declared, list) and any(isinstance(each, Mapping) for each in declared):
        inner = [(str(place), value) for place, value in enumerate(declared, start=1)]
    else:
        return {} if declared is None else {prefix.removesuffix("."): declared}
    return {name: value for key, nested in inner for name, value in _flat(nested, f"{prefix}{key}.").items()}


def _columns(steps: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    regimes = dict.fromkeys(name for step in steps for name in step["curriculum"]["weight"])
    columns = {
        "step": [step["step"] for step in steps],
        "generated_tokens": [step["generated_tokens"] for step in steps],
        "success": [step["success"] for step in steps],
        "validation": [step.get("validation", {}).get("success") for step in steps],
        "entropy": [step["entropy"] for step in steps],
        "rewarded_wrong": [step["trained"]["rewarded_wrong"] for step in steps],
        **{f"regime/{name}": [step["curriculum"]["weight"].get(name, 0.0) for step in steps] for name in regimes},
        **{f"trained/{fate}": [step["trained"][fate] for step in steps] for fate in FATES},
        **{f"strict/{fate}": [step["regimes"].get("strict", {}).get(fate) for step in steps] for fate in FATES},
    }
    return {name: _binned(values, name in ("step", "generated_tokens")) for name, values in columns.items()}


def _skills(steps: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Those that were hardest to learn first: the lowest mean over all steps."""
    names = dict.fromkeys(name for step in steps for name in step["skills"])
    measured = {name: [step["skills"].get(name) for step in steps] for name in names}

    def mean(name: str) -> float:
        values = [value for value in measured[name] if value is not None]
        return sum(values) / len(values)

    return {name: _binned(measured[name]) for name in sorted(names, key=mean)}


def _binned(values: Sequence[float | None], last: bool = False) -> list[float | None]:
    """At most POINTS of them: each the mean, or the last, of as many values that follow each other."""
    width = max(1, -(-len(values) // POINTS))
    found: list[float | None] = []
    for start in range(0, len(values), width):
        present = [value for value in values[start : start + width] if value is not None]
        if not present:
            found.append(None)
        else:
            found.append(present[-1] if last else round(sum(present) / len(present), DIGITS))
    return found


def _spread(kept: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most so many, evenly from first to last."""
    if len(kept) <= most:
        return list(kept)
    edges = [place * len(kept) // most for place in range(most + 1)]
    return [kept[start] for start, _ in pairwise(edges)]


def _shortened(group: Mapping[str, Any]) -> Shown:
    """A kept group without what the page does not show."""
    return {
        "step": group["step"],
        "question": group["question"],
        "prompt": group["prompt"],
        "right": group["right"],
        "trained": group["trained"],
        "fates": group["fates"],
        "completions": [
            {
                "text": None if completion["answer"] is not None else completion["text"],
                "items": completion["items"],
                "hits": completion["hits"],
                "exact": completion["exact"],
                "malformed": completion["components"].get("format", 1.0) < 1,
                "rewards": completion["rewards"],
                "advantages": completion["advantages"],
            }
            for completion in group["completions"]
        ],
    }


def _cheaply(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Cheaply]:
    accuracies = accuracies_of(QUESTIONS)
    right_before, right_after = (
        _right_by_group(greedy_of(policy), evaluation.get("also", {}), accuracies)
        for policy, evaluation in ((BEFORE, before), (name, after))
    )
    found = {}
    for group in (group for group in accuracies if group in right_after):
        rule, accuracy = max(accuracies[group].items(), key=lambda pair: pair[1])
        found[group] = Cheaply(rule=rule, accuracy=accuracy, before=right_before.get(group), after=right_after[group])
    return found


def _right_by_group(
    greedy: Mapping[str, Mapping[str, Any]], also: Mapping[str, Mapping[str, Any]], groups: Container[str]
) -> dict[str, float]:
    """Strict accuracy by the names of the report's groups; also: kinds that were evaluated besides, with their own."""
    right: dict[str, list[bool]] = defaultdict(list)
    for question in _questions():
        if question.id in greedy:
            at_difficulty = f"{question.kind}, difficulty {question.difficulty}"
            group = at_difficulty if at_difficulty in groups else question.kind
            right[group].append(greedy[question.id]["exact"])
    besides = {kind: measures["strict_accuracy"] for kind, measures in also.items()}
    return besides | {group: sum(exact) / len(exact) for group, exact in right.items()}


def _example(name: str) -> Answered | None:
    """The first question evaluated on that is answered rightly now and was not before; the first, if there is none."""
    before, after = greedy_of(BEFORE), greedy_of(name)
    both = [identity for identity in after if identity in before]
    if not both:
        return None
    learnt = [identity for identity in both if after[identity]["exact"] and not before[identity]["exact"]]
    question = _question((learnt or both)[0])
    right = question.answer if isinstance(question.answer, list) else [render(question.answer)]
    said_before, said_after = (
        _said(row[question.id]["completion"], question.form, len(right)) for row in (before, after)
    )
    return Answered(
        question=question.id,
        prompt=question.prompt,
        prompt_traditional=question.prompt_traditional,
        right=right,
        before=said_before,
        after=said_after,
    )


def _questions() -> Iterator[Question]:
    """Those that no training has seen."""
    for split in ("test", "validation"):
        yield from read_split(QUESTIONS, split)


def _question(identity: str) -> Question:
    for question in _questions():
        if question.id == identity:
            return question
    raise UserError(f"{QUESTIONS}: no question {identity!r}, which results/ was evaluated on; `dvc repro` mends")


def _said(completion: str, form: Form, places: int) -> list[str | None]:
    """What a completion says in each place of an answer of so many items; None where it says nothing."""
    answer = parse(completion, form).answer
    if answer is None:
        return [None] * places
    said: list[str | None] = [answer] if places == 1 else list(items(answer))
    return [*said[:places], *[None] * (places - len(said))]

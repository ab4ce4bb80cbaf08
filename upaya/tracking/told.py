"""What MLflow is told of a run: all of it is read from what the stages wrote, and may be told again at any time."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from upaya.declared.validation import Name, load_keys, load_yaml
from upaya.files import fingerprint, sha256_file
from upaya.paths import COMPARISON, CURRICULA, LOCK, POLICIES, QUESTIONS, RESULTS
from upaya.records.comparisons import comparison
from upaya.records.evaluations import details_of, samples_of
from upaya.records.histories import event_text, history_of
from upaya.records.policies import START, Provenance, line_of, provenance
from upaya.records.probes import probe_of
from upaya.records.throughput import throughput_of, timed

CURRICULUM, STAGE, REPORT = "curriculum", "stage", "report"
TABLE_ROWS = 200
EXPERIMENT = "DVC_EXP_NAME"  # set by DVC for the stages of an experiment


class _Out(BaseModel):
    """Of dvc.lock, with what stands beside it left out."""

    path: str
    md5: str | None = None


class _Locked(BaseModel):
    outs: list[_Out] = []


class _Lock(BaseModel):
    stages: dict[str, _Locked] = {}


class _From(BaseModel):
    """Of params/curricula.yaml, likewise."""

    from_: Name = Field(alias="from")


class _Tree(BaseModel):
    policies: dict[Name, _From] = {}
    compare: list[Name] = []


@dataclass
class Told:
    """One run.

    Attributes:
        name: what people call it.
        key: what it is made from; a run with another key is another run.
        kind: a curriculum from the warm-up to its end, one stage of it, or a report.
        records: lines of history.jsonl in their order, with the steps that they have on the run's axis; with each step
            where its time went.
        final: numbers at the end, at `final_step`.
        tables: file name → rows.
        figures: pictures, by path.
        datasets: what it was trained or evaluated on: (context, file).
        weights: SHA-256 of each file of weights, of a policy that is built.
        stages: the policies of a curriculum's line, base first, each with its own history.
    """

    name: str
    key: str
    kind: str
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    final: dict[str, float] = field(default_factory=dict)
    final_step: int = 0
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    figures: list[Path] = field(default_factory=list)
    datasets: list[tuple[str, Path]] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)
    stages: list["Told"] = field(default_factory=list)

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [record for record in self.records if "event" not in record]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [record for record in self.records if "event" in record]

    def event_tags(self) -> dict[str, str]:
        """MLflow has no marks for events: all of a kind stand in a tag that says from, to and why."""
        said: dict[str, list[str]] = {}
        for event in self.events:
            said.setdefault(f"event.{event['event']}", []).append(event_text(event))
        return {name: "\n".join(texts)[:4000] for name, texts in said.items()}


def training(
    name: str, parent: str | None, params: Mapping[str, Any], key: str, tags: Mapping[str, str], asked: bool = False
) -> Told:
    """A policy that is about to be trained. Args: parent: None for a base policy. asked: for it by its name."""
    line = line_of(parent) if parent else []
    before = line[len(START) :]
    is_whole = len(line) >= len(START) and (asked or name not in inner())
    experiment = os.environ.get(EXPERIMENT)
    return Told(
        name=f"{name} ({experiment})" if experiment else name,
        key=f"{name}:{key}",
        kind=CURRICULUM if is_whole else STAGE,
        params={**_of_ancestors(before), **flat_params(params)},
        tags={"policy": name, "dvc.stage_hash": key, **({"dvc.experiment": experiment} if experiment else {}), **tags},
        records=[record for each in before for record in _records(each)],
        datasets=[("training", QUESTIONS / "train.jsonl")],
        stages=[_stage(each) for each in line] if is_whole else [],
    )


def built(name: str, asked: bool = False, outs: Mapping[str, str] | None = None) -> Told:
    """A policy that is built, with its evaluation where there is one.

    Args:
        asked: for it by its name.
        outs: of `locked`, for who tells of several.
    """
    origin = provenance(name)
    told = training(name, origin["parent"], origin["params"], made_from(origin), _tags(origin), asked)
    told.records += _records(name)
    told.final_step = origin["total_steps"] or origin["steps"]
    told.weights = origin["weights"]
    digest = (locked() if outs is None else outs).get(str(POLICIES / name))
    told.tags |= {"dvc.out": digest} if digest else {}
    if told.stages:
        told.stages.append(_stage(name))
    told.params |= {"arm": name, "seed": origin["seed"], "regimes": " → ".join(_regimes(name))}
    _evaluated(told)
    return told


def probed(policy: str) -> Told:
    """What the probe of a policy found."""
    found = probe_of(policy)
    return _report(f"probe {policy}", found.model_dump(mode="json"), {"recommendation": found.recommendation.text})


def compared() -> Told:
    """The comparison of the arms."""
    reached = {row["arm"]: {"strict_accuracy": row["strict_accuracy"]} for row in comparison()["arms"]}
    return _report("compare", reached, {}, [COMPARISON / "arms.png"])


def _report(name: str, numbers: Mapping[str, Any], tags: dict[str, str], figures: Sequence[Path] = ()) -> Told:
    final = flat(numbers)
    return Told(name, f"{name}:{fingerprint(final)}", REPORT, tags=tags, final=final, figures=list(figures))


def made_from(origin: Provenance) -> str:
    """The hash over all that a built policy was made from, as its stage had it."""
    return fingerprint(origin["made_from"])


def _stage(name: str) -> Told:
    """One stage of a curriculum by itself."""
    origin = provenance(name)
    return Told(
        name=f"{name} ({origin['regime']})" if origin["regime"] else name,
        key=f"{name}:{made_from(origin)}",
        kind=STAGE,
        params=flat_params(origin["params"]),
        tags={"policy": name, "dvc.stage_hash": made_from(origin), **_tags(origin)},
        records=_records(name),
    )


def _records(name: str) -> list[dict[str, Any]]:
    return timed(history_of(name), throughput_of(name))


def _tags(origin: Provenance) -> dict[str, str]:
    said = {"regime": origin["regime"], "parent": origin["parent"], "processes": origin["processes"]}
    return {key: str(value) for key, value in said.items() if value}


def _of_ancestors(policies: Sequence[str]) -> dict[str, Any]:
    """What ancestors were told apart from this policy, under their names."""
    return {
        f"{each}.{key}": value
        for each in policies
        for key, value in flat_params(provenance(each)["params"].get("policy", {})).items()
    }


def _regimes(name: str) -> list[str]:
    """The regimes that a policy was trained on from the warm-up on, each change once."""
    found: list[str] = []
    for each in line_of(name):
        regime = provenance(each)["regime"]
        if regime and found[-1:] != [regime]:
            found.append(regime)
    return found


def _evaluated(told: Told) -> None:
    """Add the figures of the policy's evaluation, where it has one."""
    policy = told.tags["policy"]
    folder = RESULTS / policy
    if not os.path.lexists(folder / "details.json"):
        return
    metrics = dict[str, Any](details_of(policy))
    for key in ("policy", "seed", "total_steps"):
        metrics.pop(key, None)
    told.params["evaluated_questions"] = metrics.pop("n_questions")
    told.final = flat(metrics, "eval/")
    told.figures = [path for path in (folder / "curve.png",) if path.is_file()]
    told.datasets.append(("evaluation", QUESTIONS / "test.jsonl"))
    told.tables["samples.json"] = [dict(sample) for sample in samples_of(policy)[:TABLE_ROWS]]


def locked() -> dict[str, str]:
    """The hash of every output in dvc.lock, by its path: of what DVC has built. A second where there are many."""
    lock = load_yaml(LOCK, _Lock) if os.path.lexists(LOCK) else _Lock()
    return {out.path: out.md5 for stage in lock.stages.values() for out in stage.outs if out.md5}


def arms() -> list[str]:
    """The policies that are compared, in their declared order: what gives each its colour."""
    return load_keys(CURRICULA, _Tree).compare


def inner() -> set[str]:
    """The policies that others are trained from: stages of curricula, and none by themselves unless asked for."""
    return {policy.from_ for policy in load_keys(CURRICULA, _Tree).policies.values()}


def digest_of(path: Path) -> str:
    return sha256_file(path)[:16]


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """A nested record's numbers under slash-joined names, as MLflow takes metrics; an interval as its two ends."""
    numbers: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            numbers |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, list) and len(value) == 2 and key.endswith("_interval"):
            name = f"{prefix}{key.removesuffix('_interval')}"
            numbers |= {f"{name}/low": float(value[0]), f"{name}/high": float(value[1])}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = float(value)
    return numbers


def flat_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested params under dotted names, as MLflow takes them."""
    found: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            found |= flat_params(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value  # as JSON gives it back
    return found

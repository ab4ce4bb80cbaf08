"""The flows: build one policy and all it depends on, or all arms of the comparison, one Prefect task per DVC stage.

python -m flows.curriculum lenient-strict
python -m flows.curriculum auto          # the curriculum that the probe of the warm-up recommends
python -m flows.curriculum compare       # every arm of params/curricula.yaml under `compare`
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from tasks.tree import end_with_parent, supervise

if __name__ == "__main__":
    supervise("flows.curriculum")  # first of all: the supervisor does without what is imported below
elif "PREFECT__FLOW_RUN_ID" in os.environ:  # started by a worker
    end_with_parent()

import flows.surroundings  # noqa: F401, I001  # first: before Prefect
import typer
from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Failed, State
from pydantic import Field

from flows.experiments import changes, experiment, named, need_tracked, read, value_of
from flows.running import alone, to_the_end
from flows.stages import build
from tasks.prefect_ui import tell_results
from upaya.declared.curricula import Curricula, load_curricula
from upaya.declared.validation import read_yaml
from upaya.errors import UserError, shown_to_user
from upaya.measuring.comparison import arm_rows, show_arms
from upaya.measuring.report import rows_of, show
from upaya.operating.pipeline import evaluation, targets_of
from upaya.paths import COMPARISON, CURRICULA, PAGES, RESULTS
from upaya.records.comparisons import Comparison
from upaya.records.evaluations import Details
from upaya.records.probes import probe_of
from upaya.records.reading import parsed
from upaya.rewards.regimes import load_regimes, saturations
from upaya.terminal import console
from upaya.tracking.store import Store, shown_uri
from upaya.tracking.told import built, inner
from upaya.tracking.tracker import tell

AUTO, COMPARE = "auto", "compare"


def _policies() -> list[str]:
    """What Prefect's form offers to build; nothing where params/ cannot be read, which the flow itself says."""
    try:
        return [*load_curricula(load_regimes()).names, AUTO]
    except UserError:
        return []


def _run_name() -> str:
    """`lenient-strict · seed 7`"""
    asked = flow_run.parameters
    seed = asked.get("seed")
    return f"{asked.get('policy', COMPARE)} · seed {_declared_seed() if seed is None else seed}"


def _declared_seed() -> str:
    try:
        return str(read_yaml(CURRICULA)["seed"])
    except (UserError, KeyError, TypeError):
        return "?"


Policy = Annotated[
    str,
    Field(
        description=f"a policy of {CURRICULA}; `{AUTO}`: the one that the probe recommends",
        json_schema_extra={"enum": _policies()} if _policies() else {},  # as of when the flow is deployed
    ),
]
Seed = Annotated[
    int | None,
    Field(ge=0, description="another seed than the declared one: a DVC experiment, the checkout stays as it is"),
]
Overrides = Annotated[
    dict[str, Any] | None,
    Field(
        description=f'other parameters, an experiment too: {{"grpo.group_size": 16}}, keys of {CURRICULA} or FILE:KEY'
    ),
]


@flow(name="curriculum", flow_run_name=_run_name, persist_result=False)
def curriculum(policy: Policy = "lenient-strict", seed: Seed = None, overrides: Overrides = None) -> State:
    """Build a policy, its ancestors and their evaluations, and show them.

    Args:
        policy: a policy of params/curricula.yaml; `auto` for the one that the probe recommends.
        seed: another one than declared: the run is a DVC experiment, and the checkout stays as it is.
        overrides: other parameters, KEY of params/curricula.yaml or FILE:KEY → value; an experiment likewise.
    """
    if seed is None and not overrides:
        return alone(lambda: _curriculum(policy))
    return alone(lambda: _experiment(policy, seed, overrides or {}))


def _experiment(policy: str, seed: int | None, overrides: Mapping[str, Any]) -> State:
    """A policy, or the comparison, with another seed or other parameters."""
    curricula = _declared()
    if policy == AUTO:
        raise UserError(f"{AUTO} follows the probe of this checkout's warm-up: name a policy for an experiment")
    whole = policy == COMPARE
    targets = ["compare"] if whole else [evaluation(name) for name in curricula.ancestry(policy)]
    need_tracked()
    name = named(policy, seed, overrides)
    state = experiment(name, changes(seed, overrides), targets)(return_state=True)
    if state.is_completed():
        path = COMPARISON / "arms.json" if whole else RESULTS / policy / "details.json"
        text, where, maker = read(path, name), f"{path} of experiment {name}", "the same command"
        rows = parsed(text, Comparison, where, maker)["arms"] if whole else [parsed(text, Details, where, maker)]
        for arm, found in [(row.get("arm", policy), row) for row in rows]:
            low, high = found["strict_accuracy_interval"]
            console.print(f"{name}: {arm}: strict accuracy {found['strict_accuracy']:.1%} [{low:.1%}, {high:.1%}]")
        console.print(f"{name}: `dvc exp show` compares it, `dvc exp apply {name}` takes it over")
        _where_mlflow_is()
    return state


def _curriculum(policy: str) -> State:
    curricula = _declared()
    if policy == AUTO:
        state = build([f"probe@{curricula.auto.probe}"], f"probe {curricula.auto.probe}")
        if not state.is_completed():
            return state
        chosen = recommended(curricula)
        if isinstance(chosen, State):
            return chosen
        policy = chosen
    state = build(targets_of(policy, curricula), policy)
    if state.is_completed():
        show(policy)
        if policy in inner():  # else its own evaluation has told of it
            tell(built(policy, asked=True))
        page = PAGES / f"{policy}.html"
        if policy in curricula.policies:
            console.print(f"page: {page}")
        links = _where_mlflow_is() | ({"page": page.resolve().as_uri()} if policy in curricula.policies else {})
        tell_results(policy, rows_of(policy), RESULTS / policy / "curve.png", links)
    return state


@flow(name="compare", flow_run_name=_run_name, persist_result=False)
def compare(seed: Seed = None, overrides: Overrides = None) -> State:
    """Build every arm of the comparison and show them side by side. Args: as for `curriculum`."""
    if seed is None and not overrides:
        return alone(_compare)
    return alone(lambda: _experiment(COMPARE, seed, overrides or {}))


def _compare() -> State:
    _declared()
    state = build(["compare", "comparison-page"], "compare")
    if state.is_completed():
        show_arms()
        page = COMPARISON / "page.html"
        console.print(f"page: {page}")
        links = _where_mlflow_is() | {"page": page.resolve().as_uri()}
        tell_results(COMPARE, arm_rows(), COMPARISON / "arms.png", links)
    return state


def recommended(curricula: Curricula) -> str | State:
    """The policy that the probe's recommendation leads to, said aloud; Failed where no GRPO can help yet."""
    report = probe_of(curricula.auto.probe)
    console.print(f"auto: {report.recommendation.text}")
    policy = {"start strict": curricula.auto.start_strict, "start lenient": curricula.auto.start_lenient}.get(
        report.recommendation.choice
    )
    if policy is None:
        return Failed(message=f"auto: {report.recommendation.text}")
    console.print(f"auto: builds {policy}")
    return policy


def _declared() -> Curricula:
    regimes = load_regimes()
    for name in regimes.plain:
        for saturation in saturations(regimes, name):
            console.print(saturation)
    return load_curricula(regimes)


def _where_mlflow_is() -> dict[str, str]:
    """Install the view that compares the curricula, and say how to open it; its link, where a server shows it."""
    try:
        fragment = Store().view()
    except Exception:  # a view, of a store that may be away: the plain page will do
        fragment = ""
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        console.print(f"MLflow: {shown_uri()}/{fragment}")
        return {"MLflow": f"{shown_uri()}/{fragment}"}
    console.print(f"MLflow: mlflow ui --backend-store-uri {shown_uri()}, then http://127.0.0.1:5000/{fragment}")
    return {}


def main(
    policy: str = typer.Argument("lenient-strict", help=f"a policy, {AUTO} or {COMPARE}"),
    seed: int | None = typer.Option(None, min=0, help="another one than declared: a DVC experiment of its own"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of params/curricula.yaml, or FILE:KEY=VALUE; likewise")
    ] = None,
) -> None:
    """Build POLICY of params/curricula.yaml and all it depends on."""
    os.chdir(Path(__file__).parents[1])
    with shown_to_user():
        overrides = dict(_split(setting) for setting in settings or []) or None
        if policy not in (AUTO, COMPARE):
            targets_of(policy, load_curricula(load_regimes()))  # a slip is told before Prefect's server starts
    if policy == COMPARE:
        to_the_end(lambda: compare(seed, overrides, return_state=True))
    to_the_end(lambda: curriculum(policy, seed, overrides, return_state=True))


def _split(setting: str) -> tuple[str, Any]:
    key, equals, value = setting.partition("=")
    if not (key and equals):
        raise UserError(f"--set {setting}: expected KEY=VALUE, as in grpo.group_size=16")
    return key, value_of(setting, value)


if __name__ == "__main__":
    typer.run(main)

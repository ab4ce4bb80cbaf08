"""The flows: build one policy and all it depends on, or all arms of the comparison, one Prefect task per DVC stage.

python -m flows.curriculum lenient-strict
python -m flows.curriculum auto          # the curriculum that the probe of the warm-up recommends
python -m flows.curriculum compare       # every arm of params/curricula.yaml under `compare`
"""

import os
import sys
from pathlib import Path

# Before Prefect is imported: it reads its settings then.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
# The first start after installation compiles what the server imports: twenty seconds, the usual limit, may be too few.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

import typer
from dvc.utils.serialize import modify_yaml
from prefect import flow
from prefect.states import Failed, State

from flows.stages import build
from upaya.declared.curricula import Curricula, load_curricula
from upaya.errors import UserError
from upaya.measuring.comparison import show_arms
from upaya.measuring.probe_report import Report, report_path
from upaya.measuring.report import show
from upaya.paths import COMPARISON, CURRICULA, PAGES
from upaya.rewards.regimes import load_regimes, saturations
from upaya.terminal import console
from upaya.tracking.store import Store, shown_uri
from upaya.tracking.told import built, inner
from upaya.tracking.tracker import tell

AUTO, COMPARE = "auto", "compare"


@flow(name="curriculum", persist_result=False)
def curriculum(policy: str = "lenient-strict", seed: int | None = None) -> State:
    """Build a policy, its ancestors and their evaluations, and show them.

    Args:
        policy: a policy of params/curricula.yaml; `auto` for the one that the probe recommends.
        seed: written into params/curricula.yaml, as `dvc exp run -S params/curricula.yaml:seed=…` does; None keeps
            what stands there.
    """
    try:
        curricula = _declared(seed)
        if policy == AUTO:
            state = build([f"probe@{curricula.auto.probe}"], f"probe {curricula.auto.probe}")
            if not state.is_completed():
                return state
            chosen = recommended(curricula)
            if isinstance(chosen, State):
                return chosen
            policy = chosen
        line = curricula.ancestry(policy)
        pages = [f"page@{policy}"] if policy in curricula.policies else []
        state = build([*(_evaluation(name) for name in line), *pages], policy)
        if state.is_completed():
            show(policy)
            if policy in inner():  # else its own evaluation has told of it
                tell(built(policy, asked=True))
            for _ in pages:
                console.print(f"page: {PAGES / policy}.html")
            _where_mlflow_is()
        return state
    except UserError as error:
        return _failed(error)


@flow(name="compare", persist_result=False)
def compare(seed: int | None = None) -> State:
    """Build every arm of the comparison and show them side by side. Args: seed as for `curriculum`."""
    try:
        _declared(seed)
        state = build(["compare", "comparison-page"], "compare")
        if state.is_completed():
            show_arms()
            console.print(f"page: {COMPARISON / 'page.html'}")
            _where_mlflow_is()
        return state
    except UserError as error:
        return _failed(error)


def recommended(curricula: Curricula) -> str | State:
    """The policy that the probe's recommendation leads to, said aloud; Failed where no GRPO can help yet."""
    report = Report.read(report_path(curricula.auto.probe))
    console.print(f"auto: {report.recommendation.text}")
    policy = {"start strict": curricula.auto.start_strict, "start lenient": curricula.auto.start_lenient}.get(
        report.recommendation.choice
    )
    if policy is None:
        return Failed(message=f"auto: {report.recommendation.text}")
    console.print(f"auto: builds {policy}")
    return policy


def _declared(seed: int | None) -> Curricula:
    regimes = load_regimes()
    for name in regimes.plain:
        for saturation in saturations(regimes, name):
            console.print(saturation)
    curricula = load_curricula(regimes)
    if seed is not None and seed != curricula.seed:
        with modify_yaml(str(CURRICULA)) as declared:  # keeps the file's comments
            declared["seed"] = seed
        console.print(f"seed: {seed} (written to {CURRICULA})")
    return curricula


def _evaluation(policy: str) -> str:
    return f"evaluate-start@{policy}" if policy in ("base", "warmup") else f"evaluate@{policy}"


def _where_mlflow_is() -> None:
    """Install the view that compares the curricula, and say how to open it."""
    try:
        fragment = Store().view()
    except Exception:  # a view, of a store that may be away: the plain page will do
        fragment = ""
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        console.print(f"MLflow: {shown_uri()}/{fragment}")
    else:
        console.print(f"MLflow: mlflow ui --backend-store-uri {shown_uri()}, then http://127.0.0.1:5000/{fragment}")


def _failed(error: UserError) -> State:
    print(f"error: {error}", file=sys.stderr)
    return Failed(message=str(error))


def main(
    policy: str = typer.Argument("lenient-strict", help=f"a policy, {AUTO} or {COMPARE}"),
    seed: int | None = typer.Option(None),
) -> None:
    """Build POLICY of params/curricula.yaml and all it depends on."""
    os.chdir(Path(__file__).parents[1])
    state = compare(seed, return_state=True) if policy == COMPARE else curriculum(policy, seed, return_state=True)
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    typer.run(main)

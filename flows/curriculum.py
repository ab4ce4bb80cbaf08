"""The curriculum flow: build one policy and all it depends on, one Prefect task per DVC stage.

python -m flows.curriculum lenient-strict
"""

import os
import sys
from pathlib import Path

# Before Prefect is imported: it reads its settings then.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

import typer
from dvc.utils.serialize import modify_yaml
from prefect import flow
from prefect.states import Completed, Failed, State

from tasks.dvc import bring_up_to_date, graph_to
from upaya.errors import UserError
from upaya.params import CURRICULA, load_curricula
from upaya.progress import console
from upaya.report import show
from upaya.rewards.regimes import load_regimes
from upaya.tracking import tracking_uri


@flow(name="curriculum", persist_result=False)
def curriculum(policy: str = "lenient-strict", seed: int | None = None) -> State:
    """Build a policy, its ancestors and their evaluations, and show them.

    Args:
        policy: a policy of params/curricula.yaml.
        seed: written into params/curricula.yaml, as `dvc exp run -S params/curricula.yaml:seed=…` does; None keeps
            what stands there.
    """
    try:
        curricula = load_curricula(load_regimes())
        line = curricula.ancestry(policy)
        if seed is not None and seed != curricula.seed:
            set_seed(seed)
        stages = graph_to([_evaluation(name) for name in line])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return Failed(message=str(error))
    states: dict[str, State] = {}
    for stage in stages:
        task = bring_up_to_date(stage)
        state = task(wait_for=[states[parent] for parent in stage.parents], return_state=True)
        states[stage.address] = state
        if not state.is_completed():
            return Failed(message=state.message)
    show(policy)
    console.print(f"MLflow: mlflow ui --backend-store-uri {tracking_uri()}")
    skipped = sum(state.name == "Skipped" for state in states.values())
    return Completed(message=f"{policy}: {len(states) - skipped} stages run, {skipped} skipped")


def set_seed(seed: int) -> None:
    """Declare another seed, keeping the file's comments."""
    with modify_yaml(str(CURRICULA)) as declared:
        declared["seed"] = seed
    console.print(f"seed: {seed} (written to {CURRICULA})")


def _evaluation(policy: str) -> str:
    return f"evaluate-start@{policy}" if policy in ("base", "warmup") else f"evaluate@{policy}"


def main(policy: str = typer.Argument("lenient-strict"), seed: int | None = typer.Option(None)) -> None:
    """Build POLICY of params/curricula.yaml and all it depends on."""
    os.chdir(Path(__file__).parents[1])
    state = curriculum(policy, seed, return_state=True)
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    typer.run(main)

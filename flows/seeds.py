"""The same curricula with other seeds: what one run cannot say. Each seed is a DVC experiment of its own.

python -m flows.seeds lenient-strict strict-only --seeds 11-20

A seed makes everything anew from the base model on; the questions stay. What was made before is found in the run cache.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

import dvc.api
import typer
from prefect import Task, flow
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from tasks.dvc import stage_environment
from upaya.declared.curricula import load_curricula
from upaya.declared.validation import validated
from upaya.errors import UserError, nearest, shown_to_user
from upaya.files import write_json
from upaya.measuring.comparison import Arm
from upaya.measuring.seeds import show_seeds, summarised
from upaya.paths import ARMS, SEEDS
from upaya.rewards.regimes import load_regimes


@flow(name="seeds", persist_result=False)
def over_seeds(arms: list[str], seeds: list[int]) -> State:
    """Build every arm with every seed, and show means and ranges. Raises nothing: a seed that fails ends the flow."""
    found: dict[int, list[Arm]] = {}
    for seed in seeds:
        state = experiment(arms, seed)(return_state=True)
        if not state.is_completed():
            return Failed(message=state.message)
        found[seed] = [_read(arm, seed) for arm in arms]
    rows = summarised(found)
    write_json(SEEDS, {"seeds": seeds, "arms": rows})
    show_seeds(rows)
    return Completed(message=f"{len(arms)} arms with {len(seeds)} seeds")


def experiment(arms: list[str], seed: int) -> Task[[], State]:
    """The Prefect task that builds some arms with one seed, in a temporary copy of the checkout."""

    def run() -> State:
        command = [
            sys.executable, "-m", "dvc", "exp", "run", "--temp", "--force", "--name", _name(seed),
            "--set-param", f"params/curricula.yaml:seed={seed}", *(f"arm@{arm}" for arm in arms),
        ]  # fmt: skip
        code = subprocess.run(command, check=False, env=stage_environment()).returncode
        if code:
            return Failed(message=f"seed {seed} failed; its message stands above (exit code {code})")
        return Completed(message=f"seed {seed}: experiment {_name(seed)}")

    return Task(run, name=f"seed {seed}", cache_policy=NO_CACHE, persist_result=False)


def _name(seed: int) -> str:
    return f"seed-{seed}"


def _read(arm: str, seed: int) -> Arm:
    path = ARMS / f"{arm}.json"
    return validated(Arm, json.loads(dvc.api.read(str(path), rev=_name(seed))), f"{path} of experiment {_name(seed)}")


def seeds_in(text: str) -> list[int]:
    """`11-20` or `1,2,7`. Raises UserError."""
    try:
        first, dash, last = text.partition("-")
        seeds = list(range(int(first), int(last) + 1)) if dash else [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds: expected different whole numbers, as in 11-20 or 1,2,7, not {text!r}")
    return seeds


def main(
    arms: Annotated[list[str], typer.Argument(help="arms under `compare` in params/curricula.yaml")],
    seeds: Annotated[str, typer.Option(help="11-20, or 1,2,7")],
) -> None:
    """Build ARMS with several seeds, and show means and ranges."""
    os.chdir(Path(__file__).parents[1])
    with shown_to_user():
        known = load_curricula(load_regimes()).compare
        for arm in arms:
            if arm not in known:
                raise UserError(f"params/curricula.yaml: key 'compare': no arm {arm!r}; {nearest(arm, known)}")
        state = over_seeds(arms, seeds_in(seeds), return_state=True)
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    typer.run(main)

"""The same curricula with other seeds: what one run cannot say. Each seed is a DVC experiment of its own.

python -m flows.seeds lenient-strict strict-only --seeds 11-20
python -m flows.seeds lenient-strict --seeds 1-5 --split validation --label whole \\
    --set params/regimes.yaml:regimes.lenient.credit=completion

A seed makes everything anew from the base model on; the questions stay. What was made before is found in the run cache.
What is to be chosen is chosen on validation questions (`--split validation`) and on seeds that no result is told of.
"""

import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from tasks.tree import supervise

if __name__ == "__main__":
    supervise("flows.seeds")  # first of all: the supervisor does without what is imported below

import flows.surroundings  # noqa: F401, I001  # first: before Prefect
import typer
from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, State

from flows.experiments import everywhere, experiment, need_tracked, read
from flows.running import alone, to_the_end
from upaya.declared.curricula import load_curricula
from upaya.declared.validation import Name, validated
from upaya.errors import UserError, nearest, shown_to_user
from upaya.files import write_json
from upaya.measuring.comparison import Arm
from upaya.measuring.seeds import show_seeds, summarised
from upaya.paths import ARMS, CURRICULA, SEEDS
from upaya.records.reading import parsed
from upaya.rewards.regimes import load_regimes


class Split(StrEnum):
    test = "test"
    validation = "validation"


@dataclass(frozen=True)
class Variant:
    """What is built with every seed.

    Attributes:
        label: what the experiments and the report are called.
        settings: changes to params/, FILE:KEY=VALUE in DVC's notation (Hydra's basic override grammar).
    """

    arms: list[str]
    split: Split = Split.test
    label: str = "declared"
    settings: list[str] = field(default_factory=list)

    def experiment(self, seed: int) -> str:
        """The name of a seed's experiment."""
        of = self.label if self.split == Split.test else f"{self.label}-{self.split.value}"
        return f"{of}-seed-{seed}"

    def changes(self, seed: int) -> list[str]:
        """All that a seed's experiment sets."""
        own = [change for setting in self.settings for change in everywhere(setting)]
        return [f"{CURRICULA}:seed={seed}", f"{CURRICULA}:evaluation.split={self.split.value}", *own]


def _run_name() -> str:
    asked = flow_run.parameters
    return f"{asked['variant'].label} · {len(asked['seeds'])} seeds"


@flow(name="seeds", flow_run_name=_run_name, persist_result=False)
def over_seeds(variant: Variant, seeds: list[int]) -> State:
    """Build every arm with every seed, and show means and ranges. Raises nothing: a seed that fails ends the flow."""
    return alone(lambda: _over_seeds(variant, seeds))


def _over_seeds(variant: Variant, seeds: list[int]) -> State:
    need_tracked()
    found: dict[int, list[Arm]] = {}
    for seed in seeds:
        task = experiment(variant.experiment(seed), variant.changes(seed), [f"arm@{arm}" for arm in variant.arms])
        state = task(return_state=True)
        if not state.is_completed():
            return Failed(message=state.message)
        found[seed] = [_read(arm, variant.experiment(seed)) for arm in variant.arms]
    rows = summarised(found)
    declared = {"split": variant.split.value, "settings": variant.settings, "seeds": seeds}
    write_json(SEEDS / f"{variant.label}-{variant.split.value}.json", {**declared, "arms": rows})
    show_seeds(rows, variant.split.value)
    return Completed(message=f"{len(variant.arms)} arms with {len(seeds)} seeds")


def _read(arm: str, name: str) -> Arm:
    path = ARMS / f"{arm}.json"
    return parsed(read(path, name), Arm, f"{path} of experiment {name}", "the same command")


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
    split: Annotated[Split, typer.Option(help="questions to evaluate on; validation while choosing")] = Split.test,
    settings: Annotated[list[str] | None, typer.Option("--set", help="FILE:KEY=VALUE, as `dvc exp run -S`")] = None,
    label: Annotated[str, typer.Option(help="what experiments and report are called")] = "declared",
) -> None:
    """Build ARMS with several seeds, and show means and ranges."""
    os.chdir(Path(__file__).parents[1])
    with shown_to_user():
        if settings and label == "declared":
            raise UserError("--set: give what differs from the declared parameters a name of its own: --label NAME")
        validated(Name, label, "--label")
        known = load_curricula(load_regimes()).compare
        for arm in arms:
            if arm not in known:
                raise UserError(f"params/curricula.yaml: key 'compare': no arm {arm!r}; {nearest(arm, known)}")
        variant = Variant(arms, split, label, settings or [])
        variant.changes(0)  # refused before anything is built
        numbers = seeds_in(seeds)
    to_the_end(lambda: over_seeds(variant, numbers, return_state=True))


if __name__ == "__main__":
    typer.run(main)

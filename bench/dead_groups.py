"""Which way of dealing with dead groups protects a policy whose batches hold few live ones.

    python -m bench.dead_groups                     # from the warm-up, strict throughout, at 1e-3
    python -m bench.dead_groups --start lenient --learning-rate 5e-4

Each mode gets the same steps (rounds of rollouts) from the same start; a refill makes fewer updates of them. Needs what
`make run` builds.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bench.curricula import accuracy
from upaya.corpus.questions import read
from upaya.declared.curricula import load_curricula
from upaya.declared.grpo import DeadGroups, Drop, Refill, Scale
from upaya.errors import shown_to_user
from upaya.policy.model import load
from upaya.rewards.regimes import load_regimes
from upaya.startup import start
from upaya.terminal import console
from upaya.training.grpo.loop import GrpoSettings, train
from upaya.training.steps.run import Run

MODES: dict[str, DeadGroups] = {
    "drop": Drop(type="drop"),
    "refill to 4": Refill(type="refill", live=4, most_rounds=8),
    "refill to 12": Refill(type="refill", live=12, most_rounds=8),
    "scale": Scale(type="scale"),
}
WINDOW = 20


def main(
    start: str = "warmup",
    learning_rate: float = 1e-3,
    steps: int = 200,
    seeds: Annotated[list[int], typer.Option()] = [1, 2, 3],  # noqa: B006 - typer only reads it
    regime: str = "strict",
) -> None:
    regimes = load_regimes().plain
    curricula = load_curricula(load_regimes())
    questions = read(Path("questions"), "train", curricula.questions)
    test = read(Path("questions"), "test", curricula.questions)
    before = accuracy(load(f"policies/{start}"), test, curricula)
    table = Table(
        title=f"from {start} ({before:.1%}), {regime}, learning rate {learning_rate:g}, {steps} steps; "
        f"{len(test)} test questions",
        title_justify="left",
    )
    for column in ("dead groups", "seed", "accuracy at the end", f"lowest success over {WINDOW} steps", "updates",
                   "live groups per update", "entropy at the end", "alarms"):  # fmt: skip
        table.add_column(column, justify="left" if column == "dead groups" else "right")
    for name, mode in MODES.items():
        for seed in seeds:
            policy, records = load(f"policies/{start}"), list[dict[str, Any]]()
            settings = GrpoSettings(
                regime=regime, reward=regimes[regime], scored=regimes, learning_rate=learning_rate, first_step=0,
                last_step=steps, until=None, sampling=curricula.sampling,
                grpo=curricula.grpo.model_copy(update={"dead_groups": mode}),
            )  # fmt: skip
            with tempfile.TemporaryDirectory() as work:
                train(policy, questions, settings, Run(name, Path(work), "bench", seed, records.append))
            taken = [record for record in records if "event" not in record]
            success = [record["success"] for record in taken]
            lowest = min(statistics.mean(success[i : i + WINDOW]) for i in range(len(success) - WINDOW + 1))
            updates = [record["update"] for record in taken if record.get("update")]
            table.add_row(
                name, str(seed), f"{accuracy(policy, test, curricula):.1%}", f"{lowest:.3f}", str(len(updates)),
                f"{statistics.mean(update['live_groups'] for update in updates):.1f}" if updates else "–",
                f"{taken[-1]['entropy']:.2f}", str(sum(record.get("event") == "alarm" for record in records)),
            )  # fmt: skip
            console.print(f"{name}, seed {seed}: {accuracy(policy, test, curricula):.1%}")
    console.print(table)


if __name__ == "__main__":
    start()
    with shown_to_user():
        typer.run(main)

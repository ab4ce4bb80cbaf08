"""A GRPO step in two processes of one thread each against one process of one thread, under every stage of ZeRO.

    python -m bench.scaling
    python -m bench.scaling --rounds 3 --processes 2

A model of 25 M parameters with random weights, 32 prompts × 8 completions of up to 32 tokens, all groups live: what one
process does alone, the others share. All settings take their turn in each round, for the machine's speed changes by the
minute; a row gives medians. Needs what `make run` builds (prompts and tokenizer).
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer
from rich.table import Table

from bench.performance import LARGER
from tasks.launch import launcher_command, worker_environment
from upaya.corpus.questions import read
from upaya.declared.curricula import load_curricula
from upaya.declared.grpo import Drop, Grpo
from upaya.declared.launch import Launch
from upaya.declared.sampling import SamplingParams
from upaya.errors import UserError, shown_to_user
from upaya.policy.model import load
from upaya.rewards.regimes import load_regimes
from upaya.startup import start
from upaya.terminal import console
from upaya.training.completions.rollouts import roll_out
from upaya.training.grpo.batch import Batch
from upaya.training.grpo.credit import Earned
from upaya.training.grpo.update import update
from upaya.training.sft.from_scratch import from_config
from upaya.training.steps import processes
from upaya.training.steps.engine import engine_for

T = TypeVar("T")
BASE = Path("policies/base")
PARTS = ("step", "rollout", "update", "exchange", "optimiser")
PROMPTS, GROUP, NEW_TOKENS, STEPS = 32, 8, 32, 3


def worker(zero: int) -> None:
    """One of the processes: steps as upaya.grpo.loop takes them; the first prints a line of JSON."""
    processes.join()
    curricula = load_curricula(load_regimes())
    questions = read(Path("questions"), "train", curricula.questions)[:PROMPTS]
    policy = from_config(LARGER, load(BASE).tokenizer, seed=1)
    engine = engine_for(policy, zero, learning_rate=1e-6, max_grad_norm=0.1)
    prompts = [policy.encode_prompt(question.prompt) for question in questions]
    sampling = SamplingParams(max_new_tokens=NEW_TOKENS)
    grpo = Grpo(
        budget=1, prompts=PROMPTS, group_size=GROUP, max_grad_norm=0.1, checkpoint_every=1, tokens_per_micro_batch=4096
    )
    spent: dict[str, list[float]] = {part: [] for part in PARTS}
    clock = {"exchange": 0.0, "optimiser": 0.0}

    def timed(part: str, call: Callable[..., T]) -> Callable[..., T]:
        def wrapped(*arguments: Any) -> T:
            start = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                clock[part] += time.perf_counter() - start

        return wrapped

    processes.gathered = timed("exchange", processes.gathered)  # waiting included
    engine.step = timed("optimiser", engine.step)  # type: ignore[method-assign]  # summing the gradients included
    for step in range(STEPS):
        clock.update(exchange=0.0, optimiser=0.0)
        start = time.perf_counter()
        rollouts = roll_out(engine, prompts, GROUP, sampling, seed=1, step=step)
        sampled = time.perf_counter()
        batch = Batch(Drop(type="drop"))
        rewards = torch.tensor([[float(g % 2) for g in range(GROUP)]] * PROMPTS, dtype=torch.float64)
        batch.add(rollouts, Earned.as_a_whole(rewards), [question.id for question in questions])
        update(policy, engine, batch, grpo, sampling)
        end = time.perf_counter()
        seconds = {"step": end - start, "rollout": sampled - start, "update": end - sampled, **clock}
        for part in PARTS:
            spent[part].append(seconds[part])
    if processes.rank() == 0:
        print("SPENT " + json.dumps({part: values[1:] for part, values in spent.items()}), flush=True)
    processes.leave()


def measured(count: int, zero: int) -> dict[str, list[float]]:
    """Seconds of each part, per step, the first left out."""
    launch = Launch(processes=count, threads=1)
    found = subprocess.run(
        launcher_command(launch, "--module", "bench.scaling", "--worker", str(zero)),
        env=dict(os.environ) | worker_environment(launch), capture_output=True, text=True,
    )  # fmt: skip
    lines = [line for line in found.stdout.splitlines() if line.startswith("SPENT ")]
    if not lines:
        raise UserError(f"the processes failed:\n{found.stdout[-2000:]}{found.stderr[-2000:]}")
    spent: dict[str, list[float]] = json.loads(lines[-1].removeprefix("SPENT "))
    return spent


def main(
    rounds: int = 3,
    processes_: Annotated[int, typer.Option("--processes")] = 2,
    worker_: Annotated[int | None, typer.Option("--worker", hidden=True)] = None,
) -> None:
    if worker_ is not None:
        worker(worker_)
        return
    if not BASE.exists():
        raise UserError(f"no {BASE}: the bench takes its prompts and tokenizer from the default curriculum; `make run`")
    settings = [(1, 0), *((processes_, zero) for zero in range(4))]
    found: dict[tuple[int, int], list[dict[str, list[float]]]] = {setting: [] for setting in settings}
    for number in range(rounds):
        for setting in settings:
            found[setting].append(measured(*setting))
            console.print(f"round {number + 1}/{rounds}: {setting[0]} × ZeRO {setting[1]}")
    table = Table(
        title=f"seconds of a step, {rounds} rounds of {STEPS - 1}; one thread a process", title_justify="left"
    )
    for column in ("processes", "ZeRO", *PARTS, "times as fast", "rollout", "update"):
        table.add_column(column, justify="right")
    for setting in settings:
        median = {part: statistics.median(v for one in found[setting] for v in one[part]) for part in PARTS}
        ratios = {
            part: statistics.median(
                statistics.median(alone[part]) / statistics.median(one[part])
                for alone, one in zip(found[settings[0]], found[setting], strict=True)
            )
            for part in ("step", "rollout", "update")
        }
        table.add_row(
            *(str(number) for number in setting), *(f"{median[part]:.2f}" for part in PARTS),
            *(f"{ratio:.2f}" for ratio in ratios.values()),
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    start()
    with shown_to_user():
        typer.run(main)

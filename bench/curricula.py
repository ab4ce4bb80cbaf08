"""Curricula over several seeds and from other starts: what one run of `make compare` cannot say.

    python -m bench.curricula --seeds 1 --seeds 2                # from the pipeline's warm-up
    python -m bench.curricula --warm-up-to 0.9                   # from a start that is already capable
    python -m bench.curricula --arm strict-only --learning-rate 1e-3

Every arm takes the declared budget of steps; the seed is that of GRPO's rollouts and order of questions. Needs what
`make run` builds: questions/, policies/base and policies/warmup.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from upaya.corpus.questions import Question, read
from upaya.declared.curricula import Curricula, load_curricula
from upaya.declared.grpo import SuccessRate
from upaya.declared.regimes import Regime
from upaya.errors import UserError, nearest, shown_to_user
from upaya.policy.model import Policy, load
from upaya.rewards.regimes import load_regimes
from upaya.rewards.scoring import score
from upaya.sampling.decoding import sample
from upaya.startup import start
from upaya.terminal import console
from upaya.training.grpo.loop import GrpoSettings, train
from upaya.training.sft.warmup import warm_up
from upaya.training.steps.run import Run

SWITCH = SuccessRate(type="success_rate", threshold=0.2, window=10)
ARMS: dict[str, list[tuple[str, SuccessRate | None]]] = {  # regime, and when it hands over to the next
    "strict-only": [("strict", None)],
    "lenient-only": [("lenient", None)],
    "saturating-only": [("lenient-saturating", None)],
    "lenient-strict": [("lenient", SWITCH), ("strict", None)],
}


def main(
    seeds: Annotated[list[int], typer.Option(help="seeds of GRPO")] = [1],  # noqa: B006 - typer only reads it
    arm: Annotated[list[str], typer.Option(help="arms to run")] = list(ARMS),  # noqa: B006 - likewise
    learning_rate: float = 5e-4,
    warm_up_to: Annotated[float | None, typer.Option(help="a start of its own: SFT from base to this score")] = None,
) -> None:
    regimes = load_regimes().plain
    curricula = load_curricula(load_regimes())
    for name in arm:
        if name not in ARMS:
            raise UserError(f"unknown arm {name!r}; {nearest(name, ARMS)}")
    questions = read(Path("questions"), "train", curricula.questions)
    test = read(Path("questions"), "test", curricula.questions)
    with tempfile.TemporaryDirectory() as folder:
        start = Path("policies/warmup")
        if warm_up_to is not None:
            start = Path(folder) / "start"
            _warm_up(curricula, regimes, warm_up_to, start)
        console.print(f"start: strict accuracy {accuracy(load(start), test, curricula):.1%} on {len(test)} questions")
        for name in arm:
            for seed in seeds:
                began = time.monotonic()
                policy = load(start)
                switches, success = _run(name, seed, learning_rate, policy, questions, curricula, regimes)
                console.print(
                    f"{name} seed {seed} lr {learning_rate:g}: strict accuracy "
                    f"{accuracy(policy, test, curricula):.1%}, success in the first, middle and last 20 steps "
                    f"{' '.join(f'{value:.2f}' for value in success)}, switched at {switches or '–'} "
                    f"({time.monotonic() - began:.0f} s)"
                )


def _warm_up(curricula: Curricula, regimes: dict[str, Regime], to: float, folder: Path) -> None:
    """The declared warm-up, stopped at another score."""
    policy = load("policies/base")
    params = curricula.warmup.model_copy(update={"until": curricula.warmup.until.model_copy(update={"score": to})})
    with tempfile.TemporaryDirectory() as work:
        steps = warm_up(
            policy,
            read(Path("questions"), "train", curricula.asked("warmup")),
            read(Path("questions"), "validation", curricula.questions),
            params, curricula.sampling, regimes, Run("bench", Path(work), "bench", curricula.seed, lambda record: None),
        )  # fmt: skip
    folder.mkdir()
    policy.save(folder)
    console.print(f"warmed up for {steps} steps, to a score of {to}")


def _run(
    name: str, seed: int, learning_rate: float, policy: Policy, questions: list[Question], curricula: Curricula,
    regimes: dict[str, Regime],
) -> tuple[list[int], list[float]]:  # fmt: skip
    """Train one arm in place; the steps at which it switched, and the success in its first, middle and last steps."""
    records: list[dict[str, Any]] = []
    step, switches = 0, []
    for regime, until in ARMS[name]:
        settings = GrpoSettings(
            regime=regime, reward=regimes[regime], scored=regimes, learning_rate=learning_rate, first_step=step,
            last_step=curricula.grpo.budget, until=until, sampling=curricula.sampling, grpo=curricula.grpo,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as work:
            kept = Run(
                name, Path(work), "bench", seed, lambda record: None if "event" in record else records.append(record)
            )
            outcome = train(policy, questions, settings, kept)
        step = outcome.total_steps
        if outcome.handover:
            switches.append(step)
        if step == curricula.grpo.budget:
            break
    middle = len(records) // 2
    parts = (records[:20], records[middle - 10 : middle + 10], records[-20:])
    return switches, [sum(record["success"] for record in part) / len(part) for part in parts]


def accuracy(policy: Policy, questions: list[Question], curricula: Curricula) -> float:
    """Strict accuracy of greedy completions."""
    prompts = [policy.encode_prompt(question.prompt) for question in questions]
    greedy = curricula.sampling.model_copy(update={"temperature": 0.0})
    rollouts = sample(policy, prompts, 1, greedy, seed=0, step=0, prompt_indices=range(len(prompts)))
    return score(rollouts.texts(policy), questions, {}).exact_PG.double().mean().item()


if __name__ == "__main__":
    start()
    with shown_to_user():
        typer.run(main)

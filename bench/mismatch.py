"""By how much the sampler's log-probabilities differ from those of the update's own pass over the same tokens.

    python -m bench.mismatch policies/lenient policies/lenient-strict

Both are the same weights through other kernels: the sampler decodes token by token into a cache, the update reads rows
without padding. In float32 they agree to rounding; in bfloat16 they do not, and several optimiser steps per batch take
the difference for a step of the policy. What would be clipped (a ratio outside 1 ± 0.2) though nothing has moved is
what `grpo.rollout_correction` is for. In the last setting the products of updates alone are in bfloat16
(`grpo.precision`), as where the sampler is another program.
"""

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.table import Table

from upaya.corpus.questions import read_split
from upaya.declared.model import Handling
from upaya.declared.sampling import SamplingParams
from upaya.errors import shown_to_user
from upaya.paths import QUESTIONS
from upaya.policy.model import Policy, load
from upaya.sampling.decoding import sample
from upaya.startup import start
from upaya.terminal import console
from upaya.training.completions.logprobs import completion_logprobs
from upaya.training.completions.packing import length_mask

PROMPTS, GROUP, EPSILON = 16, 8, 0.2
Precision = Literal["float32", "bfloat16"]
SETTINGS: dict[str, tuple[Precision, Precision]] = {
    "float32": ("float32", "float32"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "float32, updates in bfloat16": ("float32", "bfloat16"),
}


def differences(policy: Policy, prompts: list[str], precision: Precision) -> torch.Tensor:
    """log π of the update's pass less the sampler's, of all tokens of some completions: [N]."""
    encoded, sampling = [policy.encode_prompt(prompt) for prompt in prompts], SamplingParams(max_new_tokens=64)
    with torch.no_grad():
        rollouts = sample(policy, encoded, GROUP, sampling, seed=1, step=0, prompt_indices=range(len(encoded)))
        lengths, tokens_RT = rollouts.lengths_PG.flatten(), rollouts.tokens_PGT.flatten(0, 1)
        of_row = torch.arange(len(encoded)).repeat_interleave(GROUP)
        with torch.autocast(policy.model.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            now_RT, _ = completion_logprobs(policy, encoded, of_row, tokens_RT, lengths, sampling)
    inside = length_mask(lengths, tokens_RT.shape[1])
    return (now_RT - rollouts.logprobs_PGT.flatten(0, 1))[inside]


def main(policies: Annotated[list[Path], typer.Argument(help="folders of policies")]) -> None:
    """A table, a row for each policy and setting."""
    prompts = [question.prompt for question in read_split(QUESTIONS, "validation")][:PROMPTS]
    table = Table(title="update's less sampler's log-probabilities, in nats, over tokens", title_justify="left")
    for column in ("policy", "weights", "tokens", "mean of |Δ|", "largest |Δ|", f"outside 1 ± {EPSILON}"):
        table.add_column(column, justify="left" if column in ("policy", "weights") else "right")
    for folder in policies:
        for name, (weights, update) in SETTINGS.items():
            found = differences(load(folder, Handling(dtype=weights)), prompts, update)
            outside = ((found.exp() - 1).abs() > EPSILON).float().mean().item()
            table.add_row(
                folder.name, name, str(len(found)), f"{found.abs().mean().item():.2g}",
                f"{found.abs().max().item():.2g}", f"{outside:.2%}",
            )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    start()
    with shown_to_user():
        typer.run(main)

"""Rollouts by all processes of a stage: each samples for its share of the prompts, all get all of them."""

from collections.abc import Sequence

import torch

from upaya.declared.sampling import SamplingParams
from upaya.sampling.decoding import Rollouts, sample
from upaya.sampling.philox import Stream
from upaya.training.steps import processes
from upaya.training.steps.engine import Engine


def roll_out(
    engine: Engine, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, *, seed: int, step: int,
    stream: Stream = Stream.ROLLOUTS,
) -> Rollouts:  # fmt: skip
    """G completions of each prompt: [P, G, T], the same in every process, and the same however many there are, for a
    random number depends on its prompt's place and not on who draws it. A group is never split."""
    own = range(processes.rank(), len(prompts), processes.world())
    with engine.whole() as policy:
        part = sample(
            policy, [prompts[i] for i in own], group_size, params, seed=seed, step=step, prompt_indices=own,
            stream=stream,
        )  # fmt: skip
    parts = processes.gathered(part)
    if len(parts) == 1:
        return part
    drawn_as = torch.tensor([i for rank in range(len(parts)) for i in range(rank, len(prompts), len(parts))])
    return Rollouts.joined(parts).taken(drawn_as.argsort().tolist())

"""Seconds that a GRPO step takes at the least: its arithmetic over the rate at which matrices are multiplied, or its
traffic over the memory's bandwidth, whichever is longer (Williams et al. 2009, "Roofline")."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from upaya.declared.curricula import Curricula
from upaya.declared.launch import Launch
from upaya.declared.model import ModelFile
from upaya.declared.sampling import ROWS_AT_ONCE
from upaya.measuring.memory import DRAWING, Lengths
from upaya.measuring.shape import Shape

SECONDS = 0.5  # of each measurement
SIDE = 1024  # of the matrices that are multiplied
READ = 2**28  # bytes, beyond any cache


@dataclass(frozen=True)
class Machine:
    """What one process's device does in a second. Attributes: operations: of matrix products; bandwidth: bytes."""

    operations: float
    bandwidth: float


def declared(launch: Launch) -> Machine | None:
    """What the launch's file says of its devices; None where it says nothing."""
    if launch.operations is None or launch.bandwidth is None:
        return None
    return Machine(launch.operations * 1e12, launch.bandwidth * 1e9)


def measured(dtype: str) -> Machine:
    """What this machine shows, with as many threads as are set: the medians of half a second each."""
    import torch

    from upaya.policy.device import device

    kind = getattr(torch, dtype)
    left, right = torch.randn(2, SIDE, SIDE, device=device(), dtype=kind)
    source = torch.zeros(READ // kind.itemsize, device=device(), dtype=kind)
    target = torch.empty_like(source)
    return Machine(
        operations=2 * SIDE**3 / _seconds(lambda: left @ right),
        bandwidth=2 * READ / _seconds(lambda: target.copy_(source)),
    )


def _seconds(call: Callable[[], object]) -> float:
    """Of one call, the median of many, after one that is not counted."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    taken, end = list[float](), time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(taken) < 3:
        start = time.perf_counter()
        call()
        wait()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def step_seconds(
    shape: Shape, model: ModelFile, curricula: Curricula, launch: Launch, lengths: Lengths, machine: Machine
) -> tuple[float, float]:
    """(rollout, update) of one step without a refill, all completions as long as they may be, all groups live. What
    processes say to each other is not counted."""
    grpo, limit = curricula.grpo, curricula.sampling.max_new_tokens
    width = 2 if model.dtype == "bfloat16" else 4
    prompts = grpo.prompts / launch.processes
    rows = prompts * grpo.group_size
    head = shape.vocabulary * shape.hidden
    inner = shape.parameters - head  # of which each token meets each
    read, said = prompts * lengths.prompt, rows * limit

    def longer(operations: float, traffic: float) -> float:
        return max(operations / machine.operations, traffic / machine.bandwidth)

    at_once = max(1.0, rows / ROWS_AT_ONCE)  # passes over the weights for each place
    keys = 2 * shape.keys * shape.layers * width
    cached = read + rows * limit / 2  # on average over the places
    place = shape.parameters * width * at_once + cached * keys + rows * shape.vocabulary * 2 * (width + DRAWING)
    rollout = longer(2 * inner * read, shape.parameters * width)
    rollout += limit * longer(2 * shape.parameters * rows, place)
    passes = (4 if shape.rank else 6) + (2 if model.gradient_checkpointing else 0)
    if grpo.loss.kl > 0:
        passes += 2
    steps = grpo.iterations * grpo.mini_batches
    update = passes * (inner * (read + said) + head * said) * grpo.iterations / machine.operations
    update += (
        steps * shape.trained * 28 / (launch.processes if launch.zero else 1) / machine.bandwidth
    )  # AdamW's traffic
    return rollout, update

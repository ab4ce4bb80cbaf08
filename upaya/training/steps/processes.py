"""The processes of a training stage: one, or several that DeepSpeed's launcher started (tasks/launch.py).

All run the same program over the same policy. They share out the prompts of a rollout and the completions of an update;
whatever is decided is decided by each of them from the same gathered numbers. The first writes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist

from upaya.policy.device import device

T = TypeVar("T")


def join() -> None:
    """Become one of the processes that the launcher started. Called once, before anything below."""
    import deepspeed

    # DeepSpeed would compile a way of its own for processes on one CPU to talk: a minute, and a compiler. gloo serves.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    deepspeed.init_distributed(dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False)


def leave() -> None:
    """End together with the others."""
    dist.barrier()
    dist.destroy_process_group()


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def gathered(value: T) -> list[T]:
    """Everyone's value, by rank; all processes have to call it."""
    if world() == 1:
        return [value]
    values: list[T | None] = [None] * world()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def added(gradients: list[torch.Tensor]) -> None:
    """Replace each tensor by its sum over the processes."""
    for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
        work.wait()


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process goes through while the others wait for it; then they do."""
    if rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if rank() == 0 and world() > 1:
            dist.barrier()

"""The loop that pre-training and warm-up share: steps, checkpoints, history."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from upaya.errors import UserError
from upaya.policy.model import Policy
from upaya.training.steps import processes
from upaya.training.steps.engine import Engine
from upaya.training.steps.interruption import stoppable
from upaya.training.steps.run import Run


@dataclass(frozen=True)
class Plan:
    """What the loop does. Steps count from 0 here.

    Attributes:
        losses: of this process's part of a step's batch, micro-batch by micro-batch.
        rate: what the learning rate is multiplied by at a step.
        stop: whether training ends after so many steps; may add to the step's record.
        tokens: that a step is learnt from, in all processes.
    """

    losses: Callable[[int], Iterator[Tensor]]
    rate: Callable[[int], float]
    stop: Callable[[int, dict[str, Any]], bool]
    tokens: Callable[[int], int]
    max_steps: int
    checkpoint_every: int


def train_supervised(policy: Policy, engine: Engine, plan: Plan, run: Run) -> int:
    """Steps from the last checkpoint on until `plan.stop` says so after one; returns how many were taken in all."""
    checkpoints, history, throughput = run.checkpoints(), run.history(), run.throughput()
    checkpoint = checkpoints.latest()
    step, stopped = 0, False
    if checkpoint:
        engine.load_tensors(checkpoint.tensors)
        step, stopped = checkpoint.step, checkpoint.state["stopped"]
        run.on_resumed(step)
    history.resume(checkpoint.state["history"] if checkpoint else None)
    throughput.file.resume(checkpoint.state["throughput"] if checkpoint else None)
    del checkpoint  # its file stays open with it, and keeps its place on the disk when later ones have replaced it
    with stoppable() as request:
        while step < plan.max_steps and not stopped:
            with throughput.part("update"):
                record = {"step": step + 1, **_step(policy, engine, plan, step, run.name)}
            throughput.count("update", plan.tokens(step))
            step += 1
            with throughput.part("validation"):
                stopped = plan.stop(step, record)
            history.append(record)
            run.on_step(record, throughput)
            asked_to_stop = request.made()
            if stopped or asked_to_stop or step % plan.checkpoint_every == 0:
                written = {"history": history.state_dict(), "throughput": throughput.file.state_dict()}
                with throughput.part("checkpoint"):
                    checkpoints.save(step, engine.tensors(), {**written, "stopped": stopped})
            if asked_to_stop and not stopped:
                request.stop(f"{run.name} is saved at step {step}")
    history.close()
    throughput.file.close()
    engine.finish()
    return step


def _step(policy: Policy, engine: Engine, plan: Plan, step: int, name: str) -> dict[str, float]:
    """One optimiser step; its loss, and its gradient's norm before clipping."""
    policy.model.train()
    own = 0.0
    for part in plan.losses(step):
        engine.backward(part)
        own += part.item()
    loss = sum(processes.gathered(own))
    try:
        return {"loss": loss, "grad_norm": engine.step(plan.rate(step))}
    except UserError as error:
        raise UserError(f"{name}: step {step + 1} is not taken: {error}, the loss {loss}") from None

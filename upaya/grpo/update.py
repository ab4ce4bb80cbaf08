"""One batch's optimiser steps: live groups only, in micro-batches by token budget."""

import math
from dataclasses import dataclass

import torch

from upaya import processes
from upaya.engine import Engine
from upaya.errors import UserError
from upaya.grpo.advantages import group_advantages
from upaya.grpo.batch import Batch
from upaya.grpo.loss import completion_weights, policy_loss
from upaya.logprobs import completion_logprobs
from upaya.micro_batches import micro_batches
from upaya.packing import length_mask
from upaya.params import Grpo
from upaya.policy import Policy
from upaya.sampling import SamplingParams


@dataclass(frozen=True)
class Update:
    """What an update did. Of several optimiser steps: the mean of their losses and of their gradients' norms.

    Attributes:
        grad_norm: before clipping.
        clipped: share of tokens whose ratio was clipped, over all optimiser steps; 0 where there is but one.
        kl: k3 divergence from the reference per token, None where none is kept.
        live_groups: groups that it was made from.
        step_scale: what the learning rate was multiplied by.
    """

    loss: float
    grad_norm: float
    clipped: float
    kl: float | None
    live_groups: int
    step_scale: float


def update(
    policy: Policy, engine: Engine, batch: Batch, grpo: Grpo, sampling: SamplingParams, reference: Policy | None = None
) -> Update | None:
    """Take the optimiser steps of one batch; None where every group is dead.

    Args:
        reference: what the policy is held close to; needed where grpo.loss.kl is above 0.

    Raises:
        UserError: a loss or a gradient is not finite; the step that would have used it is not taken.
    """
    live, rollouts, loss = set(batch.live), batch.rollouts, grpo.loss
    if not live:
        return None
    advantages_PG = group_advantages(batch.rewards_PG, grpo.scale_rewards).float()
    kept_PG = rollouts.finished_PG if loss.mask_truncated else torch.ones_like(rollouts.finished_PG)
    lengths_PG = rollouts.lengths_PG * kept_PG
    groups = list(range(len(batch.names))) if loss.dead_groups_count else sorted(live)
    parts = [groups[start :: grpo.mini_batches] for start in range(grpo.mini_batches)]
    group_size = lengths_PG.shape[1]
    on_policy = grpo.iterations * grpo.mini_batches == 1
    scale = batch.step_scale
    lengths = rollouts.lengths_PG.flatten().tolist()
    prompt_of = [row // group_size for row in range(len(lengths))]
    prompt_lengths = [len(prompt) for prompt in rollouts.prompts]
    losses, norms, clipped, kl, tokens = [], [], 0.0, 0.0, 0
    policy.model.train()
    for part in grpo.iterations * parts:
        learned = [group for group in part if group in live]
        if not learned:
            continue
        if loss.type in ("dapo", "cispo"):  # averaged over the whole generation batch, of which this is one part
            weights_PG = completion_weights(lengths_PG, lengths_PG[groups], loss, sampling.max_new_tokens) * len(parts)
        else:
            weights_PG = completion_weights(lengths_PG, lengths_PG[part], loss, sampling.max_new_tokens)
        losses.append(0.0)
        whole = [group * group_size + g for group in learned for g in range(group_size)]
        budget = grpo.tokens_per_micro_batch
        for batch_rows, counts in micro_batches(whole, lengths, prompt_of, prompt_lengths, budget):
            rows = torch.tensor(batch_rows)
            places, of_row = (rows // group_size).unique(return_inverse=True)
            asked = [rollouts.prompts[place] for place in places.tolist()]
            own_lengths = rollouts.lengths_PG.flatten()[rows]
            longest = int(own_lengths.max())
            tokens_RT = rollouts.tokens_PGT.flatten(0, 1)[rows, :longest]
            with torch.autocast(policy.model.device.type, torch.bfloat16, enabled=grpo.precision == "bfloat16"):
                logprobs_RT = completion_logprobs(policy, asked, of_row, tokens_RT, own_lengths, sampling.temperature)
            reference_RT = None
            if reference is not None:
                with torch.no_grad():
                    reference_RT = completion_logprobs(
                        reference, asked, of_row, tokens_RT, own_lengths, sampling.temperature
                    )
            value, metrics = policy_loss(
                logprobs_RT,
                # On-policy, the policy that sampled is the one being updated: no second forward pass, ratio 1.
                logprobs_RT.detach() if on_policy else rollouts.logprobs_PGT.flatten(0, 1)[rows, :longest],
                advantages_PG.flatten()[rows],
                length_mask(lengths_PG.flatten()[rows], longest),
                weights_PG.flatten()[rows] * counts,
                loss,
                reference_RT,
            )
            losses[-1] += value.item()
            if not math.isfinite(losses[-1]):
                names = ", ".join(batch.names[place] for place in places.tolist())
                raise UserError(f"the loss is {losses[-1]} on the completions of {names}")
            engine.backward(value)
            if counts:
                clipped, kl = clipped + metrics.clipped, kl + metrics.kl
                tokens += int(lengths_PG.flatten()[rows].sum())
        norms.append(engine.step(scale))
    everyone = processes.gathered((losses, clipped, kl, tokens))
    losses = [sum(parts) for parts in zip(*(found[0] for found in everyone), strict=True)]
    clipped, kl, tokens = (sum(parts) for parts in zip(*(found[1:] for found in everyone), strict=True))
    return Update(
        loss=sum(losses) / len(losses),
        grad_norm=sum(norms) / len(norms),
        clipped=clipped / max(1, tokens),
        kl=kl / max(1, tokens) if reference is not None else None,
        live_groups=len(live),
        step_scale=scale,
    )

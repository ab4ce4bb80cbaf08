"""One batch's optimiser steps: live groups only, in micro-batches by token budget."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from upaya.declared.grpo import Grpo, Truncate
from upaya.declared.sampling import SamplingParams
from upaya.errors import UserError
from upaya.policy.model import Policy
from upaya.training.completions.logprobs import completion_logprobs
from upaya.training.completions.micro_batches import micro_batches
from upaya.training.completions.packing import length_mask
from upaya.training.grpo.batch import Batch
from upaya.training.grpo.loss import LossMetrics, completion_weights, policy_loss
from upaya.training.steps import processes
from upaya.training.steps.engine import Engine

# Nats of a token's entropy up to which more is worth something: what is this open will be sampled. Without a bound the
# last items that are not found are pushed toward saying anything, harder than what is found holds against it.
OPEN = 0.5


@dataclass(frozen=True)
class Update:
    """What an update did. Of several optimiser steps: the mean of their losses and of their gradients' norms.

    Attributes:
        loss: with the entropy bonus taken off.
        entropy_bonus: what was taken off, None where no regime gives one.
        grad_norm: before clipping.
        clipped: share of tokens whose ratio was clipped, over all optimiser steps; 0 where there is but one.
        mismatch: nats by which log-probabilities differ between the sampler and the update before it has moved, the
            mean of their absolute values over the tokens of the first optimiser step: what their kernels round.
        kl: k3 divergence from the reference per token, None where none is kept.
        live_groups: groups that it was made from.
        tokens: of their completions that were learnt from, over all optimiser steps.
        rate: what the learning rate was multiplied by.
        encouraged: share of the advantages' sum of absolute values that made tokens likelier; the rest punished.
    """

    loss: float
    entropy_bonus: float | None
    grad_norm: float
    clipped: float
    mismatch: float
    kl: float | None
    live_groups: int
    tokens: int
    rate: float
    encouraged: float


def update(
    policy: Policy,
    engine: Engine,
    batch: Batch,
    grpo: Grpo,
    sampling: SamplingParams,
    reference: Policy | None = None,
    rate: float = 1.0,
) -> Update | None:
    """Take the optimiser steps of one batch; None where every group is dead.

    Args:
        reference: what the policy is held close to; needed where grpo.loss.kl is above 0.
        rate: what the learning rate is multiplied by.

    Raises:
        UserError: a loss or a gradient is not finite; the step that would have used it is not taken.
    """
    live = batch.live
    alive = set(live)
    if not live:
        return None
    lesson = _Lesson(policy, batch, grpo, sampling, reference)
    groups = list(range(len(batch.names))) if grpo.loss.dead_groups_count else live
    parts = [groups[start :: grpo.mini_batches] for start in range(grpo.mini_batches)]
    losses, norms = list[float](), list[float]()
    clipped, kl, bonus, tokens, mismatch, compared = 0.0, 0.0, 0.0, 0, 0.0, 0
    policy.model.train()
    if lesson.recomputed_RT is not None:
        for part in parts:  # in the very passes of the first iteration
            for rows, _ in lesson.micro_batches([group for group in part if group in alive]):
                lesson.recompute(rows)
    for part in grpo.iterations * parts:
        learned = [group for group in part if group in alive]
        if not learned:
            continue
        weights_PG = lesson.weights(part, groups, len(parts))
        losses.append(0.0)
        for rows, counts in lesson.micro_batches(learned):
            value, metrics, away = lesson.loss(rows, weights_PG.flatten()[rows] * counts)
            losses[-1] += value.item()
            if not math.isfinite(losses[-1]):
                raise UserError(f"the loss is {losses[-1]} on the completions of {lesson.names(rows)}")
            engine.backward(value)
            if counts:
                clipped, kl, bonus = clipped + metrics.clipped, kl + metrics.kl, bonus + metrics.bonus
                seen = int(lesson.lengths_PG.flatten()[rows].sum())
                tokens += seen
                if not norms:
                    mismatch, compared = mismatch + away, compared + seen
        norms.append(engine.step(rate * batch.step_scale))
    everyone = processes.gathered((losses, clipped, kl, bonus, tokens, mismatch, compared))
    losses = [sum(parts) for parts in zip(*(own[0] for own in everyone), strict=True)]
    clipped, kl, bonus, tokens, mismatch, compared = (
        sum(parts) for parts in zip(*(own[1:] for own in everyone), strict=True)
    )
    return Update(
        loss=sum(losses) / len(losses),
        entropy_bonus=bonus / len(losses) if lesson.bonus_RT is not None else None,
        grad_norm=sum(norms) / len(norms),
        clipped=clipped / max(1, tokens),
        mismatch=mismatch / max(1, compared),
        kl=kl / max(1, tokens) if reference is not None else None,
        live_groups=len(live),
        tokens=tokens,
        rate=rate * batch.step_scale,
        encouraged=lesson.encouraged,
    )


class _Lesson:
    """A batch as an update reads it: completions by row, R = P · G, with their advantages.

    Attributes:
        lengths_PG: tokens that are learned from; 0 for completions that are masked out.
    """

    def __init__(
        self, policy: Policy, batch: Batch, grpo: Grpo, sampling: SamplingParams, reference: Policy | None
    ) -> None:
        self.policy, self.grpo, self.sampling, self.reference = policy, grpo, sampling, reference
        self.rollouts = rollouts = batch.rollouts
        self.prompt_names = batch.names
        self.advantages_RT = batch.advantages(grpo.scale_rewards).float().flatten(0, 1)
        bonus_PGT = batch.earned.entropy_bonus(batch.slots_PGT)
        self.bonus_RT = bonus_PGT.float().flatten(0, 1) if bonus_PGT.any() else None
        kept_PG = rollouts.finished_PG if grpo.loss.mask_truncated else torch.ones_like(rollouts.finished_PG)
        self.lengths_PG = rollouts.lengths_PG * kept_PG
        pushes = self.advantages_RT[length_mask(self.lengths_PG.flatten(), self.advantages_RT.shape[1])]
        total = pushes.abs().sum().item()
        self.encouraged = pushes.clamp(min=0).sum().item() / total if total else 0.0
        self.group_size = self.lengths_PG.shape[1]
        # On-policy, the policy that sampled is the one being updated: no second forward pass, ratio 1.
        self.is_on_policy = grpo.iterations * grpo.mini_batches == 1
        self.sampled_RT = rollouts.logprobs_PGT.flatten(0, 1)
        self.recomputed_RT = self.sampled_RT.clone() if grpo.rollout_correction and not self.is_on_policy else None

    def weights(self, part: Sequence[int], groups: Sequence[int], parts: int) -> Tensor:
        """What each completion's tokens weigh in an optimiser step on `part` of the groups: [P, G]."""
        loss, limit = self.grpo.loss, self.sampling.max_new_tokens
        if loss.type in ("dapo", "cispo"):  # averaged over the whole generation batch, of which this is one part
            return completion_weights(self.lengths_PG, self.lengths_PG[groups], loss, limit) * parts
        return completion_weights(self.lengths_PG, self.lengths_PG[part], loss, limit)

    def micro_batches(self, groups: Sequence[int]) -> Iterator[tuple[Tensor, bool]]:
        """This process's passes over the completions of some groups: (rows, whether they count)."""
        rows = [group * self.group_size + place for group in groups for place in range(self.group_size)]
        lengths = self.rollouts.lengths_PG.flatten().tolist()
        prompt_of = [row // self.group_size for row in range(len(lengths))]
        prompt_lengths = [len(prompt) for prompt in self.rollouts.prompts]
        budget = self.grpo.tokens_per_micro_batch
        for own, counts in micro_batches(rows, lengths, prompt_of, prompt_lengths, budget):
            yield torch.tensor(own), counts

    def names(self, rows: Tensor) -> str:
        """What the prompts of some completions are called in messages."""
        return ", ".join(self.prompt_names[place] for place in (rows // self.group_size).unique().tolist())

    def recompute(self, rows: Tensor) -> None:
        """Remember the log-probabilities of some completions under the policy as it is now."""
        assert self.recomputed_RT is not None
        with torch.no_grad():
            logprobs_RT, _ = self._logprobs(self.policy, rows, False)
        self.recomputed_RT[rows, : logprobs_RT.shape[1]] = logprobs_RT

    def loss(self, rows: Tensor, weights_R: Tensor) -> tuple[Tensor, LossMetrics, float]:
        """The loss on some completions, differentiable; and by how much their log-probabilities differ from the
        sampler's, the sum of absolute values."""
        grpo = self.grpo
        logprobs_RT, entropies_RT = self._logprobs(self.policy, rows, self.bonus_RT is not None)
        reference_RT = None
        if self.reference is not None:
            with torch.no_grad():
                reference_RT, _ = self._logprobs(self.reference, rows, False)
        now_RT, longest = logprobs_RT.detach(), logprobs_RT.shape[1]
        mask_RT = length_mask(self.lengths_PG.flatten()[rows], longest)
        sampled_RT = self.sampled_RT[rows, :longest]
        old_RT, importance_RT = now_RT if self.is_on_policy else sampled_RT, None
        if self.recomputed_RT is not None:
            old_RT = self.recomputed_RT[rows, :longest]
        if isinstance(grpo.rollout_correction, Truncate):
            ratio_RT = (old_RT - sampled_RT).masked_fill(~mask_RT, 0.0).exp()
            importance_RT = ratio_RT.clamp(max=grpo.rollout_correction.cap)
        value, metrics = policy_loss(
            logprobs_RT,
            old_RT,
            self.advantages_RT[rows, :longest],
            mask_RT,
            weights_R,
            grpo.loss,
            reference_RT,
            importance_RT,
            None if self.bonus_RT is None else self.bonus_RT[rows, :longest] * entropies_RT.clamp(max=OPEN),
        )
        return value, metrics, (now_RT - sampled_RT).masked_fill(~mask_RT, 0.0).abs().sum().item()

    def _logprobs(self, policy: Policy, rows: Tensor, entropies: bool) -> tuple[Tensor, Tensor]:
        """Log-probabilities of some completions' tokens, [R, T] up to the longest of them, and entropies."""
        rollouts = self.rollouts
        places, of_row = (rows // self.group_size).unique(return_inverse=True)
        prompts = [rollouts.prompts[place] for place in places.tolist()]
        lengths = rollouts.lengths_PG.flatten()[rows]
        tokens_RT = rollouts.tokens_PGT.flatten(0, 1)[rows, : int(lengths.max())]
        # The reference is not trained: it is in the precision that it was loaded in.
        lowered = self.grpo.precision == "bfloat16" and policy is self.policy
        with torch.autocast(policy.model.device.type, torch.bfloat16, enabled=lowered):
            return completion_logprobs(policy, prompts, of_row, tokens_RT, lengths, self.sampling, entropies)

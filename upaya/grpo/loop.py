"""The GRPO loop: rollouts, scores under every regime, advantages within each group, one step, hand over when told.

The policy-gradient view: G completions of one prompt are drawn from the current policy and compared with each other;
those above their group's mean become likelier, those below less likely. Left out of textbook PPO/GRPO, and why:
- the value network: the group's mean is the baseline;
- clipped ratios and several epochs: one optimiser step per batch is on-policy, the ratio is 1;
- the KL penalty and its reference model: the rewards are exact checks, there is no reward model to drift from;
- the division by the group's standard deviation: it weighs a group the more the less its rewards differ.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from upaya.checkpoints import Checkpoints
from upaya.engine import Engine
from upaya.errors import UserError
from upaya.grpo.advantages import group_centred, is_live, length_mask
from upaya.grpo.loss import token_level_loss
from upaya.grpo.measures import measure, under
from upaya.grpo.switching import Condition, Fired, RunningStatistics, fired
from upaya.history import History
from upaya.logprobs import completion_logprobs
from upaya.order import prompt_order
from upaya.params import Grpo
from upaya.policy import Policy
from upaya.questions import Question
from upaya.rewards.regimes import Regime
from upaya.rewards.schedules import Rewarding, Schedule
from upaya.rewards.scoring import score
from upaya.sampling import Rollouts, SamplingParams, sample


@dataclass(frozen=True)
class Stage:
    """What one GRPO stage is to do.

    Attributes:
        regime: the name of the regime or schedule that is trained on.
        switched: the event that opens this stage, where its parent trained on another regime.
        first_step: steps of GRPO that the policy's ancestors took; steps are counted from the warm-up on.
        last_step: where the common budget, or the stage's own limit, ends.
        generated_tokens: tokens that the ancestors' rollouts generated.
    """

    name: str
    regime: str
    learning_rate: float
    first_step: int
    last_step: int
    until: Condition | None
    seed: int
    sampling: SamplingParams
    grpo: Grpo
    generated_tokens: int = 0
    switched: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """Where a stage ended: steps and tokens since the warm-up, and what made it hand over (None: the budget's end)."""

    total_steps: int
    generated_tokens: int
    handover: Fired | None


def train(
    policy: Policy,
    questions: Sequence[Question],
    stage: Stage,
    regimes: Mapping[str, Regime],
    reward: Regime | Schedule,
    work: Path,
    fingerprint: str,
    on_record: Callable[[dict[str, Any]], None],
) -> Outcome:
    """Train the policy in place, from the last checkpoint where there is one; returns where it ended.

    Args:
        regimes: those that every rollout is scored under.
        reward: the regime or schedule that is trained on.
        work: folder for history.jsonl and checkpoints.
        fingerprint: what the stage is made from; checkpoints made from anything else are not resumed.
        on_record: called with every line of the history, those before a resumed checkpoint excepted.

    Raises:
        UserError: loss or gradient are not finite; the last checkpoint stays.
    """
    engine = Engine(
        policy.model, learning_rate=stage.learning_rate, max_grad_norm=stage.grpo.max_grad_norm, betas=stage.grpo.betas
    )
    checkpoints = Checkpoints(work / "checkpoints", fingerprint)
    history = History(work / "history.jsonl")
    statistics = RunningStatistics()
    rewarding = Rewarding(reward, stage.regime, regimes)
    strictness = {name: place for place, name in enumerate(regimes)}
    step, tokens = stage.first_step, stage.generated_tokens
    handover: Fired | None = None
    checkpoint = checkpoints.latest()
    if checkpoint:
        engine.load_tensors(checkpoint.tensors)
        statistics.load_state_dict(checkpoint.state["statistics"])
        rewarding.load_state_dict(checkpoint.state["rewarding"])
        step, tokens = checkpoint.step, checkpoint.state["generated_tokens"]
        handover = Fired(**checkpoint.state["handover"]) if checkpoint.state["handover"] else None
    history.truncate(checkpoint.state["history_offset"] if checkpoint else 0)
    prompts = [policy.encode_prompt(question.prompt) for question in questions]

    def write(record: dict[str, Any]) -> None:
        history.append(record)
        on_record(record)

    if stage.switched and not checkpoint:
        write(stage.switched)
    while step < stage.last_step and not handover:
        chosen = prompt_order(len(questions), step, stage.grpo.prompts, stage.seed)
        rollouts = sample(
            policy, [prompts[i] for i in chosen], stage.grpo.group_size, stage.sampling,
            seed=stage.seed, step=step, prompt_indices=range(len(chosen)),
        )  # fmt: skip
        scores = score(rollouts.texts(policy), [questions[i] for i in chosen], regimes)
        rewards_PG, weights = rewarding.rewards(step - stage.first_step, scores.rewards_PG, scores.exact_PG.all(dim=1))
        loss, norm = update(policy, engine, rollouts, rewards_PG, stage)
        step += 1
        tokens += int(rollouts.lengths_PG.sum())
        if not np.isfinite([loss, norm]).all():
            raise UserError(
                f"{stage.name}: at step {step} the loss is {loss} and the gradient's norm {norm}. The last checkpoint "
                "is kept; a smaller learning rate or max_grad_norm in params/curricula.yaml may help."
            )
        measured = measure(rollouts, scores)
        trained = under(rewards_PG, scores.exact_PG)
        place = sum(weight * strictness[name] for name, weight in weights.items())
        write(
            {
                "step": step,
                "regime": stage.regime,
                "curriculum": {"regime": place, "weight": weights},
                **measured,
                "trained": trained,
                "loss": loss,
                "grad_norm": norm,
                "generated_tokens": tokens,
            }
        )
        if rewarding.event:
            write(rewarding.event | {"step": step})
        live = {f"live/{name}": found["live"] for name, found in measured["regimes"].items()}
        statistics.update({"success": measured["success"], "reward": trained["reward"], **live})
        handover = fired(stage.until, statistics) if stage.until else None
        if handover:
            write({"event": "handover", "step": step, "regime": stage.regime, **handover.model_dump()})
        if step % stage.grpo.checkpoint_every == 0 or handover or step == stage.last_step:
            state = {
                "statistics": statistics.state_dict(),
                "rewarding": rewarding.state_dict(),
                "generated_tokens": tokens,
                "history_offset": history.offset,
                "handover": handover.model_dump() if handover else None,
            }
            checkpoints.save(step, engine.tensors(), state)
    history.close()
    return Outcome(step, tokens, handover)


def update(policy: Policy, engine: Engine, rollouts: Rollouts, rewards_PG: Tensor, stage: Stage) -> tuple[float, float]:
    """One optimiser step on the live groups: (loss, gradient norm), both 0 where every group is dead."""
    live = is_live(rewards_PG).nonzero()[:, 0].tolist()
    if not live:
        return 0.0, 0.0
    advantages_PG = group_centred(rewards_PG).float()
    total_tokens = int(rollouts.lengths_PG[live].sum())
    loss = 0.0
    policy.model.train()
    for groups in micro_batches(live, rollouts, stage.grpo.tokens_per_micro_batch):
        longest = int(rollouts.lengths_PG[groups].max())
        logprobs = completion_logprobs(
            policy, [rollouts.prompts[i] for i in groups], rollouts.tokens_PGT[groups, :, :longest],
            stage.sampling.temperature,
        )  # fmt: skip
        part = token_level_loss(
            logprobs,
            logprobs.detach(),  # on-policy: the policy that sampled is the one being updated
            advantages_PG[groups],
            length_mask(rollouts.lengths_PG[groups], longest),
            total_tokens,
        )
        engine.backward(part)
        loss += part.item()
    return loss, engine.step()


def micro_batches(live: list[int], rollouts: Rollouts, budget: int) -> Iterator[list[int]]:
    """Whole groups, sorted by length, as many at once as fit the budget of (padded) prompt and completion tokens."""
    group_size = rollouts.lengths_PG.shape[1]
    longest = rollouts.lengths_PG.amax(dim=1).tolist()
    batch: list[int] = []
    for group in sorted(live, key=lambda i: (longest[i], len(rollouts.prompts[i]), i)):
        candidate = [*batch, group]
        width = max(len(rollouts.prompts[i]) for i in candidate) + group_size * max(longest[i] for i in candidate)
        if batch and width * len(candidate) > budget:
            yield batch
            candidate = [group]
        batch = candidate
    yield batch

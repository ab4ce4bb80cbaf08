"""The GRPO loop: rollouts, scores under every regime, advantages within each group, an update, hand over when told.

The policy-gradient view: G completions of one prompt are drawn from the current policy and compared with each other;
those above their group's mean become likelier, those below less likely. What the default leaves out of textbook
PPO/GRPO, and why:
- the value network: the group's mean is the baseline;
- several optimiser steps per batch, and with them clipped ratios: one step is on-policy, the ratio is 1 (`iterations`,
  `mini_batches` and `loss` bring both back);
- the KL penalty and its reference model: rewards are exact checks, no reward model to drift from (`loss.kl`);
- the division by the group's standard deviation: it weighs a group the more the less its rewards differ
  (`scale_rewards`);
- dead groups: rewards that are all equal have no advantage, so no time is spent on them (`dead_groups`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from upaya.checkpoints import Checkpoints
from upaya.engine import engine_for
from upaya.errors import UserError
from upaya.grpo.alarm import collapses
from upaya.grpo.batch import Batch
from upaya.grpo.measures import measure, under
from upaya.grpo.switching import Condition, Fired, RunningStatistics, fired
from upaya.grpo.update import update
from upaya.history import History
from upaya.interruption import stoppable
from upaya.order import prompt_order
from upaya.params import Grpo
from upaya.policy import Policy, compile_layers
from upaya.questions import Question
from upaya.rewards.regimes import Regime
from upaya.rewards.schedules import Rewarding, Schedule
from upaya.rewards.scoring import score
from upaya.rollouts import roll_out
from upaya.sampling import SamplingParams


@dataclass(frozen=True)
class Stage:
    """What one GRPO stage is to do.

    Attributes:
        regime: the name of the regime or schedule that is trained on.
        switched: the event that opens this stage, where its parent trained on another regime.
        first_step: steps of GRPO that the policy's ancestors took; steps are counted from the warm-up on.
        last_step: where the common budget, or the stage's own limit, ends.
        generated_tokens: tokens that the ancestors' rollouts generated.
        zero: stage of ZeRO, where several processes train (upaya/engine.py).
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
    zero: int = 0


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
    reference: Policy | None = None,
) -> Outcome:
    """Train the policy in place, from the last checkpoint where there is one; returns where it ended.

    A step is one round of rollouts. It ends in an update, except where a refill (upaya/grpo/batch.py) goes on sampling.

    Args:
        regimes: those that every rollout is scored under.
        reward: the regime or schedule that is trained on.
        work: folder for history.jsonl and checkpoints.
        fingerprint: what the stage is made from; checkpoints made from anything else are not resumed.
        on_record: called with every line of the history, those before a resumed checkpoint excepted.
        reference: what the policy is held close to, where stage.grpo.loss.kl is above 0.

    Raises:
        UserError: loss or gradient are not finite; the step is not taken and the last checkpoint stays.
        Stopped: SIGTERM or Ctrl-C asked for it; a checkpoint of the last update is saved.
    """
    grpo, sampling = stage.grpo, stage.sampling
    engine = engine_for(
        policy, stage.zero, learning_rate=stage.learning_rate, max_grad_norm=grpo.max_grad_norm, betas=grpo.betas
    )
    checkpoints = Checkpoints(work / "checkpoints", fingerprint)
    history = History(work / "history.jsonl")
    statistics = RunningStatistics()
    rewarding = Rewarding(reward, stage.regime, regimes)
    strictness = {name: place for place, name in enumerate(regimes)}
    step, tokens, handover = stage.first_step, stage.generated_tokens, None
    checkpoint = checkpoints.latest()
    if checkpoint:
        engine.load_tensors(checkpoint.tensors)
        statistics.load_state_dict(checkpoint.state["statistics"])
        rewarding.load_state_dict(checkpoint.state["rewarding"])
        step, tokens = checkpoint.step, checkpoint.state["generated_tokens"]
        handover = Fired(**checkpoint.state["handover"]) if checkpoint.state["handover"] else None
    history.truncate(checkpoint.state["history_offset"] if checkpoint else 0)
    prompts = [policy.encode_prompt(question.prompt) for question in questions]
    if grpo.compile:
        compile_layers(policy.model)

    def write(record: dict[str, Any]) -> None:
        history.append(record)
        on_record(record)

    def save() -> None:
        state = {
            "statistics": statistics.state_dict(),
            "rewarding": rewarding.state_dict(),
            "generated_tokens": tokens,
            "history_offset": history.offset,
            "handover": handover.model_dump() if handover else None,
        }
        checkpoints.save(step, engine.tensors(), state)

    if stage.switched and not checkpoint:
        write(stage.switched)
    batch, saved = Batch(grpo.dead_groups), step
    with stoppable() as request:
        while step < stage.last_step and not handover:
            chosen = prompt_order(len(questions), step, grpo.prompts, stage.seed)
            asked = [prompts[i] for i in chosen]
            rollouts = roll_out(engine, asked, grpo.group_size, sampling, seed=stage.seed, step=step)
            scores = score(rollouts.texts(policy), [questions[i] for i in chosen], regimes)
            solved_P = scores.exact_PG.all(dim=1)
            rewards_PG, weights = rewarding.rewards(step - stage.first_step, scores.rewards_PG, solved_P)
            batch.add(rollouts, rewards_PG, [questions[i].id for i in chosen])
            step += 1
            tokens += int(rollouts.lengths_PG.sum())
            measured, trained = measure(rollouts, scores), under(rewards_PG, scores.exact_PG)
            record: dict[str, Any] = {
                "step": step,
                "regime": stage.regime,
                "curriculum": {
                    "regime": sum(share * strictness[name] for name, share in weights.items()),
                    "weight": weights,
                },
                **measured,
                "trained": trained,
                "generated_tokens": tokens,
            }
            events = [rewarding.event] if rewarding.event else []
            updating = batch.is_ready or step == stage.last_step
            if updating:
                try:
                    made = update(policy, engine, batch, grpo, sampling, reference)
                except UserError as error:
                    raise UserError(
                        f"{stage.name}: step {step} is not taken: {error}. {_kept(checkpoints)} A smaller learning "
                        "rate or max_grad_norm in params/curricula.yaml may help."
                    ) from None
                record["update"] = asdict(made) if made else None
                if batch.shortage:
                    events.append({"event": "refill", "condition": f"cut short: {batch.shortage}", "value": None})
                batch = Batch(grpo.dead_groups)
            live = {f"live/{name}": found["live"] for name, found in measured["regimes"].items()}
            watched = {name: measured[name] for name in ("success", "entropy", "completion_length")}
            statistics.update({**watched, "reward": trained["reward"], **live})
            write(record)
            for event in events + collapses(grpo.alarm, statistics):
                write(event | {"step": step})
            if not updating:
                continue
            handover = fired(stage.until, statistics) if stage.until else None
            if handover:
                write({"event": "handover", "step": step, "regime": stage.regime, **handover.model_dump()})
            done, asked_to_stop = handover is not None or step == stage.last_step, request.made()
            if done or asked_to_stop or step - saved >= grpo.checkpoint_every:
                save()
                saved = step
            if asked_to_stop and not done:
                request.stop(f"{stage.name} is saved at step {step}")
    history.close()
    engine.finish()
    return Outcome(step, tokens, handover)


def _kept(checkpoints: Checkpoints) -> str:
    steps = checkpoints.steps()
    return f"The checkpoint of step {steps[-1]} is kept." if steps else "No checkpoint was written before it."

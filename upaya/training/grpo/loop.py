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

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from torch import Tensor

from upaya.corpus.questions import Question
from upaya.declared.grpo import Condition, Grpo
from upaya.declared.model import RateSchedule
from upaya.declared.regimes import Regime, Schedule
from upaya.declared.sampling import SamplingParams
from upaya.errors import UserError
from upaya.policy.attention import need_bfloat16
from upaya.policy.model import Policy, compile_layers
from upaya.rewards.scoring import score
from upaya.training.completions.measures import measure, under
from upaya.training.completions.rollouts import roll_out
from upaya.training.grpo.alarm import WATCHED, Health, collapses
from upaya.training.grpo.batch import Batch
from upaya.training.grpo.credit import earned_under, token_slots
from upaya.training.grpo.draw import Draw
from upaya.training.grpo.hints import Giver, beginning, encoded
from upaya.training.grpo.kept import Keeper
from upaya.training.grpo.rewarding import Rewarding
from upaya.training.grpo.switching import Fired, RunningStatistics, fired, reach
from upaya.training.grpo.update import update
from upaya.training.grpo.validation import Measurement
from upaya.training.steps.checkpoints import Checkpoints
from upaya.training.steps.engine import OPTIMISER, engine_for
from upaya.training.steps.interruption import stoppable
from upaya.training.steps.run import Run
from upaya.training.steps.tensors import at_hand


@dataclass(frozen=True)
class GrpoSettings:
    """What one GRPO stage is to do.

    Attributes:
        regime: the name of the regime or schedule that is trained on.
        reward: that regime or schedule.
        scored: the regimes that every rollout is scored under, `reward`'s own among them, from lenient to strict.
        switched: the event that opens this stage, where its parent trained on another regime.
        first_step: steps of GRPO that the policy's ancestors took; steps are counted from the warm-up on.
        last_step: where the common budget, or the stage's own limit, ends.
        generated_tokens: tokens that the ancestors' rollouts generated.
        moments: the optimiser's state to begin with, as `Outcome.moments` has it; None for a fresh one.
        keep_moments: whether the outcome is to hold the optimiser's state.
        validation: the questions that success is measured on beside the training prompts, where grpo.validation says
            so.
    """

    regime: str
    reward: Regime | Schedule
    scored: Mapping[str, Regime]
    learning_rate: float
    first_step: int
    last_step: int
    until: Condition | None
    sampling: SamplingParams
    grpo: Grpo
    schedule: RateSchedule = field(default_factory=RateSchedule)
    generated_tokens: int = 0
    switched: dict[str, Any] | None = None
    moments: Mapping[str, Tensor] | None = None
    keep_moments: bool = False
    validation: Sequence[Question] = ()


@dataclass(frozen=True)
class Outcome:
    """Where a stage ended: steps and tokens since the warm-up, what made it hand over (None: the budget's end), and the
    optimiser's state by name, whole, where it is to be kept (of several processes the first has it)."""

    total_steps: int
    generated_tokens: int
    handover: Fired | None
    moments: Mapping[str, Tensor] | None


def train(
    policy: Policy, questions: Sequence[Question], settings: GrpoSettings, run: Run, reference: Policy | None = None
) -> Outcome:
    """Train the policy in place, from the last checkpoint where there is one; returns where it ended.

    A step is one round of rollouts. It ends in an update, except where a refill (upaya/training/grpo/batch.py) goes on
    sampling.

    Args:
        reference: what the policy is held close to, where grpo.loss.kl is above 0.

    Raises:
        UserError: loss or gradient are not finite; the step is not taken and the last checkpoint stays.
        Stopped: SIGTERM or Ctrl-C asked for it; a checkpoint of the last update is saved.
    """
    return _Loop(policy, questions, settings, run, reference).run_to_the_end()


STRICT = "strict"  # the regime that others are held against, where it is among those measured


class _Loop:
    """The state of a stage at work: everything that a checkpoint holds, and what is done with it."""

    def __init__(
        self, policy: Policy, questions: Sequence[Question], settings: GrpoSettings, run: Run, reference: Policy | None
    ) -> None:
        grpo = settings.grpo
        if grpo.precision == "bfloat16":
            need_bfloat16(policy.model.device)
        self.policy, self.questions, self.settings, self.run, self.reference = (
            policy, questions, settings, run, reference,
        )  # fmt: skip
        self.engine = engine_for(
            policy, run.zero, learning_rate=settings.learning_rate, max_grad_norm=grpo.max_grad_norm, betas=grpo.betas
        )
        self.checkpoints, self.history, self.rollouts = run.checkpoints(), run.history(), run.rollouts()
        self.throughput = run.throughput()
        self.statistics = RunningStatistics(reach(settings.until, grpo.alarm))
        self.health = Health(grpo.alarm)
        self.draw = Draw(grpo.sampler, len(questions), run.seed, settings.first_step * grpo.prompts)
        self.rewarding = Rewarding(settings.reward, settings.regime, settings.scored)
        self.hints = Giver(self.rewarding.hints)
        self.keeper = Keeper(grpo.keep)
        self.measurement = Measurement(policy, grpo.validation, settings.validation, settings.sampling, run.seed)
        self.strictness = {name: place for place, name in enumerate(settings.scored)}
        self.step, self.tokens = settings.first_step, settings.generated_tokens
        self.handover: Fired | None = None
        self.batch = Batch(grpo.dead_groups)
        # Encoded when a step asks for them: encoding all would take seconds.
        self.prompt = cache(lambda i: policy.encode_prompt(questions[i].prompt))

    def run_to_the_end(self) -> Outcome:
        settings = self.settings
        resumed = self._resume()
        if settings.grpo.compile:
            compile_layers(self.policy.model)
        if settings.switched and not resumed:
            self._write(settings.switched)
        saved = self.step
        with stoppable() as request:
            while self.step < settings.last_step and not self.handover:
                if not self._take_step():
                    continue
                done, asked_to_stop = self.handover is not None or self.step == settings.last_step, request.made()
                if done or asked_to_stop or self.step - saved >= settings.grpo.checkpoint_every:
                    self._save()
                    saved = self.step
                if asked_to_stop and not done:
                    request.stop(f"{self.run.name} is saved at step {self.step}")
        self.history.close()
        self.rollouts.close()
        self.throughput.file.close()
        moments = None
        if settings.keep_moments:
            parts = {name: part for name, part in self.engine.tensors().items() if name.startswith(OPTIMISER)}
            moments = at_hand(parts)
        self.engine.finish()
        return Outcome(self.step, self.tokens, self.handover, moments)

    def _take_step(self) -> bool:
        """A round of rollouts, an update where one is due, a line of the history; whether there was an update."""
        record = self._roll_out()
        events = [self.rewarding.event] if self.rewarding.event else []
        updating = self.batch.is_ready or self.step == self.settings.last_step
        if updating:
            with self.throughput.part("update"):
                record["update"] = self._update()
            for group in self.keeper.taken(self.batch, self.settings.grpo.scale_rewards):
                self.rollouts.append(group)
            if self.batch.shortage:
                events.append({"event": "refill", "condition": f"cut short: {self.batch.shortage}", "value": None})
            self.batch = Batch(self.settings.grpo.dead_groups)
        live = {f"live/{name}": under_it["live"] for name, under_it in record["regimes"].items()}
        watched = {name: record[name] for name in ("success", *WATCHED)}
        validation = record.get("validation", {}).get("success")
        self.statistics.update({**watched, "reward": record["trained"]["reward"], **live}, validation)
        self.history.append(record)
        self.run.on_step(record, self.throughput)
        events += collapses(self.settings.grpo.alarm, self.statistics)
        events += self.health.look(record["skills"], self.statistics)
        if validation is not None:
            events += self.health.compare(record["success"], validation)
        if self.settings.regime != STRICT and f"live/{STRICT}" in live:
            events += self.health.slope(record["trained"]["live"], live[f"live/{STRICT}"])
        for event in events:
            self._write(event | {"step": self.step})
        if updating and self.settings.until and not self.hints.items:
            self.handover = fired(self.settings.until, self.statistics)
        if self.handover:
            place = {"step": self.step, "regime": self.settings.regime}
            self._write({"event": "handover", **place, **self.handover.model_dump()})
        return updating

    def _roll_out(self) -> dict[str, Any]:
        """Sample and score a round of prompts, and add it to the batch; the step's record."""
        settings, step = self.settings, self.step
        chosen = self.draw.next(settings.grpo.prompts)
        questions = [self.questions[i] for i in chosen]
        hinted = self.hints.next(self.statistics)
        begun = [self.policy.after_opening(beginning(question, hinted)) for question in questions]
        prompts = [self.prompt(i) + encoded(self.policy, begin) for i, begin in zip(chosen, begun, strict=True)]
        with self.throughput.part("rollouts"):
            rollouts = roll_out(
                self.engine, prompts, settings.grpo.group_size, settings.sampling, seed=self.run.seed, step=step
            )
        generated = int(rollouts.lengths_PG.sum())
        self.throughput.count("rollouts", generated)
        with self.throughput.part("scoring"):
            texts = rollouts.texts(self.policy, begun)
            scores = score(texts, questions, settings.scored)
        solved_P = scores.exact_PG.all(dim=1)
        earned, weights = self.rewarding.trained(
            step - settings.first_step, earned_under(settings.scored, scores), solved_P
        )
        self.draw.saw(chosen, scores)
        self.keeper.look(step + 1, len(self.batch.names), questions, texts, scores, earned)
        slots = token_slots(self.policy, rollouts, scores.said, begun) if earned.parts_PGK is not None else None
        self.batch.add(rollouts, earned, [question.id for question in questions], slots)
        self.step += 1
        self.tokens += generated
        measured = measure(rollouts, scores, questions)
        with self.throughput.part("validation"):
            validation = self.measurement.success(self.engine, self.step, hinted)  # of the policy that sampled these
        return {
            "step": self.step,
            "regime": settings.regime,
            "curriculum": {
                "regime": sum(share * self.strictness[name] for name, share in weights.items()),
                "weight": weights,
            },
            **measured,
            "trained": under(earned.rewards_PG, scores.exact_PG),
            **({"hinted_items": hinted} if self.hints.hints.items else {}),
            "generated_tokens": self.tokens,
            **({} if validation is None else {"validation": _compared(measured["success"], validation)}),
        }

    def _update(self) -> dict[str, Any] | None:
        """The optimiser steps of the batch; what they did, None where every group is dead."""
        settings = self.settings
        taken, steps = self.step - 1 - settings.first_step, settings.last_step - settings.first_step
        rate = settings.schedule.at(taken, steps)
        try:
            done = update(self.policy, self.engine, self.batch, settings.grpo, settings.sampling, self.reference, rate)
        except UserError as error:
            raise UserError(
                f"{self.run.name}: step {self.step} is not taken: {error}. {_kept(self.checkpoints)} A smaller "
                "learning rate or max_grad_norm in params/curricula.yaml may help."
            ) from None
        if done is None:
            return None
        self.throughput.count("update", done.tokens)
        return asdict(done)

    def _write(self, record: dict[str, Any]) -> None:
        self.history.append(record)
        self.run.on_record(record)

    def _save(self) -> None:
        state = {
            "statistics": self.statistics.state_dict(),
            "draw": self.draw.state_dict(),
            "health": self.health.state_dict(),
            "hints": self.hints.state_dict(),
            "rewarding": self.rewarding.state_dict(),
            "generated_tokens": self.tokens,
            "history": self.history.state_dict(),
            "rollouts": self.rollouts.state_dict(),
            "throughput": self.throughput.file.state_dict(),
            "handover": self.handover.model_dump() if self.handover else None,
        }
        with self.throughput.part("checkpoint"):
            self.checkpoints.save(self.step, self.engine.tensors(), state)

    def _resume(self) -> bool:
        """Take the last checkpoint's state; whether there is one."""
        checkpoint = self.checkpoints.latest()
        self.history.resume(checkpoint.state["history"] if checkpoint else None)
        self.rollouts.resume(checkpoint.state["rollouts"] if checkpoint else None)
        self.throughput.file.resume(checkpoint.state["throughput"] if checkpoint else None)
        if checkpoint is None:
            if self.settings.moments:
                self.engine.load_tensors(self.settings.moments)
            return False
        state = checkpoint.state
        self.engine.load_tensors(checkpoint.tensors)
        self.statistics.load_state_dict(state["statistics"])
        self.draw.load_state_dict(state["draw"])
        self.health.load_state_dict(state["health"])
        self.hints.load_state_dict(state["hints"])
        self.rewarding.load_state_dict(state["rewarding"])
        self.step, self.tokens = checkpoint.step, state["generated_tokens"]
        self.handover = Fired(**state["handover"]) if state["handover"] else None
        self.run.on_resumed(self.step - self.settings.first_step)
        return True


def _compared(training: float, validation: float) -> dict[str, float]:
    """Success on validation questions, and by how much that on training prompts exceeds it."""
    return {"success": validation, "gap": training - validation}


def _kept(checkpoints: Checkpoints) -> str:
    steps = checkpoints.steps()
    return f"The checkpoint of step {steps[-1]} is kept." if steps else "No checkpoint was written before it."

"""grpo: policies/<name>, trained from its parent under one reward regime until it hands over or the budget ends."""

from typing import Any

from tasks.stage import Stage, moments_of, say_what_is_too_long
from upaya.corpus.questions import Question, read
from upaya.declared.grpo import Grpo, PolicyParams, is_on_validation
from upaya.declared.launch import load_launch
from upaya.declared.model import load_model_file
from upaya.declared.regimes import Regime, Reward, scored_regimes
from upaya.declared.sampling import SamplingParams
from upaya.declared.selection import Selection
from upaya.declared.validation import Declared, FileName, Name, Seed, load_keys
from upaya.errors import UserError
from upaya.measuring.slope import flat_ones, lenient_ones, slopes
from upaya.paths import CURRICULA, POLICIES, QUESTIONS, REGIMES
from upaya.policy.adapters import add_lora
from upaya.policy.model import Room, load
from upaya.records.histories import event_text
from upaya.records.policies import Provenance, verified
from upaya.rewards.regimes import check_all, need_full_marks
from upaya.terminal import console
from upaya.training.grpo.loop import GrpoSettings, train


class Params(Declared):
    """Of params/curricula.yaml."""

    seed: Seed
    model: FileName
    launch: FileName
    questions: Selection
    sampling: SamplingParams
    grpo: Grpo
    policy: PolicyParams


class Regimes(Declared):
    """Of params/regimes.yaml."""

    measured: dict[Name, Regime]
    reward: Reward


def main(name: str) -> None:
    params = load_keys(CURRICULA, Params, policy=f"policies.{name}")
    declared, grpo = params.policy, params.grpo
    regimes = load_keys(REGIMES, Regimes, reward=f"regimes.{declared.regime}")
    scored = scored_regimes(declared.regime, regimes.reward, regimes.measured)
    for saturation in check_all(scored):
        if saturation.startswith(f"regime {declared.regime} "):
            console.print(saturation)
    launch, model = load_launch(params.launch), load_model_file(params.model)
    launch.need_shares({"grpo.prompts": grpo.prompts})
    parent = verified(declared.from_)
    first_step, last_step = parent["total_steps"], grpo.budget
    if declared.max_steps:
        last_step = min(last_step, first_step + declared.max_steps)
    made_from = {**params.model_dump(exclude={"launch"}), **regimes.model_dump(), **model.model_dump()}
    stage = Stage(name, {"questions": QUESTIONS, "parent": POLICIES / declared.from_}, made_from, declared_as="policy")
    selection = declared.questions or params.questions
    questions, validation = read(QUESTIONS, "train", selection), _validation(name, params, selection)
    if grpo.validation and validation:
        launch.need_shares({"grpo.validation.questions": min(grpo.validation.questions, len(validation))})
    need_full_marks((*questions, *validation), scored)
    plain = {declared.regime: regimes.reward} if isinstance(regimes.reward, Regime) else {}
    for line in flat_ones(slopes(plain, questions), lenient_ones(plain)):
        console.print(f"{name}: {line}")
    sampling = params.sampling.changed(declared.sampling)
    room = Room([question.prompt for question in (*questions, *validation)], sampling.max_new_tokens)
    policy = load(POLICIES / declared.from_, model, room)
    say_what_is_too_long(name, policy, (*questions, *validation), sampling.max_new_tokens)
    if model.lora:
        if declared.optimiser == "inherited" and model.lora.merge:
            raise UserError(
                f"{CURRICULA}: key 'policies.{name}.optimiser': the parent's adapters are merged into its weights, and "
                "new ones have no optimiser's state to inherit; say `fresh`, or train all weights"
            )
        add_lora(policy.model, model.lora, params.seed)
    reference = load(POLICIES / declared.from_, model) if grpo.loss.kl > 0 else None
    settings = GrpoSettings(
        regime=declared.regime,
        reward=regimes.reward,
        scored=scored,
        learning_rate=declared.learning_rate,
        schedule=declared.schedule,
        first_step=first_step,
        last_step=last_step,
        until=declared.until,
        sampling=sampling,
        grpo=grpo,
        generated_tokens=parent["generated_tokens"],
        switched=_switch(parent, declared.regime) if first_step < last_step else None,
        moments=moments_of(declared.from_) if declared.optimiser == "inherited" else None,
        keep_moments=declared.keep_optimiser,
        validation=validation,
    )
    measured = ""
    with (
        stage.tracker(declared.from_, regime=declared.regime) as tracker,
        stage.progress(last_step - first_step) as progress,
    ):

        def on_record(record: dict[str, Any]) -> None:
            nonlocal measured
            tracker.record(record)
            if "event" in record:
                progress.say(event_text(record))
                return
            trained = record["trained"]
            if "validation" in record:
                measured = f", on validation {record['validation']['success']:.3f} at step {record['step']}"
            progress.advance(
                f"reward {trained['reward']:.2f}, live groups {trained['live']:.0%}, "
                f"strict success {record['success']:.3f}{measured}"
            )

        if first_step >= last_step:
            console.print(_no_step(name, declared.from_, grpo.budget))
        run = stage.run(params.seed, launch.zero, on_record, progress)
        outcome = train(policy, questions, settings, run, reference)
    folder = stage.publish(
        policy,
        {
            "parent": declared.from_,
            "regime": declared.regime if outcome.total_steps > first_step else parent["regime"],
            "questions": selection.model_dump(),
            "seed": params.seed,
            "steps": outcome.total_steps - first_step,
            "first_step": first_step,
            "total_steps": outcome.total_steps,
            "generated_tokens": outcome.generated_tokens,
            "handover": outcome.handover.model_dump() if outcome.handover else None,
            "measured_under": {key: regime.digest for key, regime in scored.items()},
        },
        outcome.moments,
        merge=model.lora is not None and model.lora.merge,
    )
    console.print(f"{name}: {folder} after {outcome.total_steps} of {grpo.budget} steps since the warm-up")


def _validation(name: str, params: Params, selection: Selection) -> list[Question]:
    """The validation questions that a stage is measured on; none where nothing is declared, or none is there."""
    if not params.grpo.validation:
        return []
    questions = [each for each in read(QUESTIONS, "validation") if selection.holds(each.kind, each.difficulty)]
    if not questions:
        missing = f"{QUESTIONS / 'validation.jsonl'} has no question of {name}'s selection ({selection})"
        if is_on_validation(params.policy.until):
            raise UserError(
                f"{CURRICULA}: key 'policies.{name}.until': {missing}, so that `on: validation` can never hold. Add "
                "some, or take `on: training`"
            )
        console.print(f"{name}: {missing}: success on validation questions is not measured")
    return questions


def _no_step(name: str, parent: str, budget: int) -> str:
    return (
        f"{name}: NO STEP IS LEFT: {parent} used up all {budget} steps of the budget. What is published is {parent} "
        f"under another name, not trained under its regime. Raise grpo.budget, or give {parent} a `max_steps` or an "
        "`until` that fires."
    )


def _switch(parent: Provenance, regime: str) -> dict[str, Any] | None:
    """The event that opens the stage, where its parent trained on another regime."""
    if parent["regime"] in (None, regime):
        return None
    why = parent.get("handover") or {"condition": "the parent's steps were used up", "value": None}
    change = {"event": "switch", "step": parent["total_steps"], "from": parent["regime"], "to": regime}
    return change | {"condition": why["condition"], "value": why["value"]}

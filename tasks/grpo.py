"""grpo: policies/<name>, trained from its parent under one reward regime until it hands over or the budget ends.

python -m tasks.grpo lenient
"""

import sys
from functools import partial
from typing import Any

from tasks.launch import run
from tasks.stage import POLICIES, QUESTIONS, Stage, provenance
from upaya.errors import UserError, nearest
from upaya.grpo.loop import Stage as GrpoStage
from upaya.grpo.loop import train
from upaya.history import event_text
from upaya.lora import add_lora
from upaya.params import CURRICULA, load_curricula, load_launch, load_model_file
from upaya.policy import Room, load
from upaya.progress import Progress, console
from upaya.questions import read
from upaya.rewards.schedules import load_regimes


def main(name: str) -> None:
    regimes = load_regimes()
    curricula = load_curricula(regimes)
    if name not in curricula.policies:
        raise UserError(f"{CURRICULA}: no GRPO policy {name!r}; {nearest(name, curricula.policies)}")
    declared = curricula.policies[name]
    for saturation in regimes.saturations(declared.regime):
        console.print(saturation)
    parent = provenance(declared.from_)
    last_step = curricula.grpo.budget
    if declared.max_steps:
        last_step = min(last_step, parent["total_steps"] + declared.max_steps)
    params = {
        "seed": curricula.seed,
        "questions": curricula.asked(name).model_dump(),
        "sampling": curricula.sampling.model_dump(),
        "grpo": curricula.grpo.model_dump(),
        "policy": declared.model_dump(),
        "regime": regimes.regimes[declared.regime].model_dump(),
    }
    stage = Stage(name, {"questions": QUESTIONS, "parent": POLICIES / declared.from_}, params, program="policy")
    questions = read(QUESTIONS, "train", curricula.asked(name))
    model = load_model_file(curricula.model)
    room = Room([question.prompt for question in questions], curricula.sampling.max_new_tokens)
    policy = load(POLICIES / declared.from_, model, room)
    if model.lora:
        add_lora(policy.model, model.lora, curricula.seed)
    switched = None
    if parent["regime"] not in (None, declared.regime):
        why = parent["handover"] or {"condition": "the parent's steps were used up", "value": None}
        switched = {"event": "switch", "step": parent["total_steps"], "from": parent["regime"], "to": declared.regime}
        switched |= {"condition": why["condition"], "value": why["value"]}
    tags = {"regime": declared.regime, "parent": declared.from_}
    steps_to_do = last_step - parent["total_steps"]
    with stage.tracker(**tags) as tracker, Progress(name, steps_to_do) as progress:

        def on_record(record: dict[str, Any]) -> None:
            tracker.record(record)
            if "event" in record:
                progress.say(event_text(record))
                return
            trained = record["trained"]
            progress.advance(
                f"reward {trained['reward']:.2f}, live groups {trained['live']:.0%}, "
                f"strict success {record['success']:.3f}"
            )

        outcome = train(
            policy,
            questions,
            GrpoStage(
                name=name,
                regime=declared.regime,
                learning_rate=declared.learning_rate,
                first_step=parent["total_steps"],
                last_step=last_step,
                until=declared.until,
                seed=curricula.seed,
                sampling=curricula.sampling,
                grpo=curricula.grpo,
                generated_tokens=parent["generated_tokens"],
                switched=switched,
                zero=load_launch(curricula.launch).zero,
            ),
            regimes.plain,
            regimes.regimes[declared.regime],
            stage.work,
            stage.fingerprint,
            on_record,
            load(POLICIES / declared.from_, model) if curricula.grpo.loss.kl > 0 else None,
        )
    folder = stage.publish(
        policy,
        {
            "parent": declared.from_,
            "regime": declared.regime,
            "seed": curricula.seed,
            "steps": outcome.total_steps - parent["total_steps"],
            "first_step": parent["total_steps"],
            "total_steps": outcome.total_steps,
            "generated_tokens": outcome.generated_tokens,
            "handover": outcome.handover.model_dump() if outcome.handover else None,
            "measured_under": {key: regime.digest for key, regime in regimes.plain.items()},
        },
    )
    console.print(f"{name}: {folder} after {outcome.total_steps} of {curricula.grpo.budget} steps since the warm-up")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tasks.grpo POLICY")
    run("tasks.grpo", partial(main, sys.argv[1]))

"""warmup: policies/warmup, the base model taught the form of an answer (SFT), until a measured score is reached.

python -m tasks.warmup
"""

from tasks.launch import run
from tasks.stage import POLICIES, QUESTIONS, Stage
from upaya.lora import add_lora
from upaya.params import load_curricula, load_launch, load_model_file
from upaya.policy import Room, load
from upaya.progress import Progress, console
from upaya.questions import read
from upaya.rewards.schedules import load_regimes
from upaya.sft import warm_up


def main() -> None:
    regimes = load_regimes()
    curricula = load_curricula(regimes)
    params = {
        "seed": curricula.seed,
        "questions": curricula.questions.model_dump(),
        "sampling": curricula.sampling.model_dump(),
        **curricula.warmup.model_dump(),
        "until_regime": regimes.plain[curricula.warmup.until.regime].model_dump(),
    }
    stage = Stage("warmup", {"questions": QUESTIONS, "parent": POLICIES / "base"}, params)
    questions = read(QUESTIONS, "train", curricula.asked("warmup"))
    validation = read(QUESTIONS, "validation", curricula.questions)
    model = load_model_file(curricula.model)
    room = Room([question.prompt for question in questions], curricula.sampling.max_new_tokens)
    policy = load(POLICIES / "base", model, room)
    if model.lora:
        add_lora(policy.model, model.lora, curricula.seed)
    measured: dict[str, float] = {}
    with stage.tracker(parent="base") as tracker, Progress("warmup", curricula.warmup.max_steps) as progress:

        def on_record(record: dict[str, dict[str, float]]) -> None:
            tracker.record(record)
            measured.update(record.get("validation", {}))
            note = f", validation score {measured['score']:.2f}, success {measured['success']:.3f}" if measured else ""
            progress.advance(f"loss {record['loss']:.2f}{note}")

        steps = warm_up(
            policy, questions, validation, curricula.warmup, curricula.sampling, regimes.plain, curricula.seed,
            stage.work, stage.fingerprint, on_record, load_launch(curricula.launch).zero,
        )  # fmt: skip
    folder = stage.publish(
        policy,
        {
            "parent": "base",
            "regime": None,
            "seed": curricula.seed,
            "steps": steps,
            "total_steps": 0,
            "generated_tokens": 0,
        },
    )
    console.print(f"warmup: {folder} after {steps} steps")


if __name__ == "__main__":
    run("tasks.warmup", main)

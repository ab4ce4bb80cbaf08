"""warmup: policies/warmup, the base model taught the form of an answer (SFT), until a measured score is reached."""

from tasks.stage import Stage, say_what_is_too_long
from upaya.corpus.questions import read
from upaya.declared.launch import load_launch
from upaya.declared.model import load_model_file
from upaya.declared.regimes import Regime
from upaya.declared.sampling import SamplingParams
from upaya.declared.selection import Selection
from upaya.declared.validation import Declared, FileName, Name, Seed, load_keys
from upaya.declared.warmup import Warmup
from upaya.paths import CURRICULA, POLICIES, QUESTIONS, REGIMES
from upaya.policy.adapters import add_lora
from upaya.policy.model import Room, load
from upaya.records.policies import verified
from upaya.rewards.regimes import check_all, need_full_marks
from upaya.terminal import console
from upaya.training.sft.warmup import warm_up


class Params(Declared):
    """Of params/curricula.yaml."""

    seed: Seed
    model: FileName
    launch: FileName
    questions: Selection
    sampling: SamplingParams
    warmup: Warmup


class Regimes(Declared):
    """Of params/regimes.yaml."""

    measured: dict[Name, Regime]
    until: Regime


def main() -> None:
    params = load_keys(CURRICULA, Params)
    warmup = params.warmup
    regimes = load_keys(REGIMES, Regimes, until=f"regimes.{warmup.until.regime}")
    scored = {**regimes.measured, warmup.until.regime: regimes.until}
    check_all(scored)
    launch, model = load_launch(params.launch), load_model_file(params.model)
    launch.need_shares({"warmup.batch_size": warmup.batch_size, "warmup.until.questions": warmup.until.questions})
    declared = {**params.model_dump(exclude={"launch"}), **regimes.model_dump(), **model.model_dump()}
    stage = Stage("warmup", {"questions": QUESTIONS, "parent": POLICIES / "base"}, declared)
    questions = read(QUESTIONS, "train", warmup.questions or params.questions)
    validation = read(QUESTIONS, "validation", params.questions)
    need_full_marks((*questions, *validation), scored)
    verified("base")
    room = Room([question.prompt for question in questions], params.sampling.max_new_tokens)
    policy = load(POLICIES / "base", model, room)
    say_what_is_too_long("warmup", policy, (*questions, *validation), params.sampling.max_new_tokens)
    if model.lora:
        add_lora(policy.model, model.lora, params.seed)
    measured: dict[str, float] = {}
    with stage.tracker("base") as tracker, stage.progress(warmup.max_steps) as progress:

        def on_record(record: dict[str, dict[str, float]]) -> None:
            tracker.record(record)
            measured.update(record.get("validation", {}))
            note = f", validation score {measured['score']:.2f}, success {measured['success']:.3f}" if measured else ""
            progress.advance(f"loss {record['loss']:.2f}{note}")

        run = stage.run(params.seed, launch.zero, on_record, progress)
        steps = warm_up(policy, questions, validation, warmup, params.sampling, scored, run)
    folder = stage.publish(
        policy,
        {
            "parent": "base",
            "regime": None,
            "seed": params.seed,
            "steps": steps,
            "total_steps": 0,
            "generated_tokens": 0,
        },
        merge=model.lora is not None and model.lora.merge,
    )
    short = ""
    if steps == warmup.max_steps and measured.get("score", 1.0) < warmup.until.score:  # unknown where nothing was left
        short = f": score {measured['score']:.2f}, though {warmup.until.score:g} was asked for: its steps are used up"
    console.print(f"warmup: {folder} after {steps} steps{short}")

"""pretrain: policies/base, the model before it is ever asked a question.

A model from scratch (params/models/*.yaml with an architecture) gets a tokenizer and learns to read the corpus. A
model given by path or hub name is taken as it is: pre-training is skipped.

    python -m tasks.pretrain
"""

from tasks.launch import run
from tasks.stage import QUESTIONS, Stage
from upaya.errors import UserError
from upaya.files import read_text
from upaya.params import load_curricula, load_launch, load_model_file
from upaya.policy import from_config, load, train_tokenizer
from upaya.progress import Progress, console
from upaya.questions import read
from upaya.rewards.schedules import load_regimes
from upaya.sft import pretrain

PROMPTS_FOR_TOKENIZER = 40  # enough to know the prompts' characters, too few to make whole clauses of them one token


def main() -> None:
    curricula = load_curricula(load_regimes())
    model = load_model_file(curricula.model)
    params = {"seed": curricula.seed, "model": curricula.model, **model.model_dump()}
    stage = Stage("base", {"questions": QUESTIONS}, params, program="pretrain")
    zero, steps = load_launch(curricula.launch).zero, 0
    with stage.tracker() as tracker:
        if model.source:
            console.print(f"base: {model.source} is taken as it is, pre-training is skipped")
            policy = load(model.source, model)
        else:
            assert model.architecture and model.pretraining
            lines = read_text(QUESTIONS / "text.txt").splitlines()
            if not lines:
                raise UserError(
                    f"{QUESTIONS / 'text.txt'} is empty: a corpus of finished questions gives a model from scratch "
                    "nothing to read. Name an existing model in params/models/, or add elements or lists to the corpus."
                )
            prompts = [q.prompt for q in read(QUESTIONS, "train", curricula.questions)[:PROMPTS_FOR_TOKENIZER]]
            tokenizer = train_tokenizer(lines + prompts, model.pretraining.vocab_size)
            policy = from_config(model.architecture, tokenizer, curricula.seed)
            console.print(f"base: {policy.model.num_parameters():,} parameters, {len(tokenizer)} tokens")
            with Progress("base", model.pretraining.steps) as progress:

                def on_record(record: dict[str, float]) -> None:
                    tracker.record(record)
                    progress.advance(f"loss {record['loss']:.2f}")

                steps = pretrain(
                    policy, lines, model.pretraining, curricula.seed, stage.work, stage.fingerprint, on_record, zero
                )
    folder = stage.publish(
        policy,
        {
            "parent": None,
            "model": curricula.model,
            "source": model.source,
            "regime": None,
            "seed": curricula.seed,
            "steps": steps,
            "total_steps": 0,
            "generated_tokens": 0,
            "parameters": policy.model.num_parameters(),
        },
    )
    console.print(f"base: {folder}, {steps} steps of pre-training")


if __name__ == "__main__":
    run("tasks.pretrain", main)

"""pretrain: policies/base, the model before it is ever asked a question.

A model from scratch (params/models/*.yaml with an architecture) gets a tokenizer and learns to read the corpus. A
model given by path or hub name is taken as it is: pre-training is skipped.
"""

from pathlib import Path

from tasks.stage import Stage
from upaya.corpus.questions import read
from upaya.declared.launch import load_launch
from upaya.declared.model import ModelFile, load_model_file, model_file, need_watched
from upaya.declared.selection import Selection
from upaya.declared.validation import Declared, FileName, Seed, load_keys
from upaya.errors import UserError
from upaya.files import read_text
from upaya.paths import CURRICULA, QUESTIONS
from upaya.policy.model import Policy, load
from upaya.terminal import console
from upaya.training.sft.from_scratch import from_config, train_tokenizer
from upaya.training.sft.pretraining import pretrain

PROMPTS_FOR_TOKENIZER = 40  # enough to know the prompts' characters, too few to make whole clauses of them one token


class Params(Declared):
    """Of params/curricula.yaml."""

    seed: Seed
    model: FileName
    model_files: str
    launch: FileName
    questions: Selection


def main() -> None:
    params = load_keys(CURRICULA, Params)
    model, launch = load_model_file(params.model), load_launch(params.launch)
    need_watched(params.model, model, params.model_files)
    if model.pretraining:
        launch.need_shares({"pretraining.batch_size": model.pretraining.batch_size}, model_file(params.model))
    declared = {"seed": params.seed, "model": params.model, **model.model_dump()}
    stage = Stage("base", {"questions": QUESTIONS}, declared, declared_as="pretrain")
    steps = 0
    with stage.tracker() as tracker:
        if model.source:
            console.print(f"base: {model.source} is taken as it is, pre-training is skipped")
            policy = load(Path(model.path) if model.path else model.source, model, revision=model.revision or "main")
        else:
            assert model.pretraining
            policy, lines = _from_scratch(params, model)
            with stage.progress(model.pretraining.steps) as progress:

                def on_record(record: dict[str, float]) -> None:
                    tracker.record(record)
                    progress.advance(f"loss {record['loss']:.2f}")

                run = stage.run(params.seed, launch.zero, on_record, progress)
                steps = pretrain(policy, lines, model.pretraining, run)
    folder = stage.publish(
        policy,
        {
            "parent": None,
            "model": params.model,
            "source": model.source,
            "regime": None,
            "seed": params.seed,
            "steps": steps,
            "total_steps": 0,
            "generated_tokens": 0,
            "parameters": policy.model.num_parameters(),
        },
    )
    console.print(f"base: {folder}, {steps} steps of pre-training")


def _from_scratch(params: Params, model: ModelFile) -> tuple[Policy, list[str]]:
    """The model with random weights, and the lines that it learns to read."""
    assert model.architecture and model.pretraining
    lines = read_text(QUESTIONS / "text.txt").splitlines()
    if not lines:
        raise UserError(
            f"{QUESTIONS / 'text.txt'} is empty: a corpus of finished questions gives a model from scratch nothing to "
            "read. Name an existing model in params/models/, or add elements or lists to the corpus."
        )
    prompts = [question.prompt for question in read(QUESTIONS, "train", params.questions)[:PROMPTS_FOR_TOKENIZER]]
    tokenizer = train_tokenizer(lines + prompts, model.pretraining.vocab_size)
    policy = from_config(model.architecture, tokenizer, params.seed, model)
    console.print(f"base: {policy.model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    return policy, lines

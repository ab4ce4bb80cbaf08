"""What each of two processes does in test_processes.py, started by DeepSpeed's launcher: `several.py FOLDER`.

Under every ZeRO stage: warm-up and GRPO from the same start, a checkpoint half way, and the rest of the way from that
checkpoint under the next stage. The first process leaves what it saw in the folder.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from upaya.corpus.answers import Completion
from upaya.corpus.questions import Question
from upaya.declared.grpo import Grpo
from upaya.declared.model import Handling, Lora, Pretraining
from upaya.declared.regimes import Regime
from upaya.declared.sampling import SamplingParams
from upaya.declared.warmup import Warmup
from upaya.policy.adapters import add_lora, merge_lora
from upaya.policy.model import Policy, load
from upaya.startup import start as start_up
from upaya.training.completions.logprobs import completion_logprobs
from upaya.training.completions.rollouts import roll_out
from upaya.training.grpo.loop import GrpoSettings, train
from upaya.training.sft.from_scratch import from_config, train_tokenizer
from upaya.training.sft.pretraining import pretrain
from upaya.training.sft.warmup import warm_up
from upaya.training.steps import processes
from upaya.training.steps.engine import engine_for
from upaya.training.steps.run import Run

VALUES = ["有见", "无见", "有对", "无对", "善", "无记"]
LINES = [f"眼界，{a}、{b}。<think>眼</think><answer>{b}</answer>" for a in VALUES for b in VALUES]
SIZES = {
    "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 63, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.1, "tie_word_embeddings": True,
}  # fmt: skip  # 63: parts that do not come out even between two processes
QUESTIONS = [
    Question(
        id=f"q{i}", kind="own", split="train", key=f"q{i}", prompt=f"眼界{value}？", answer=[value, VALUES[i - 1]],
        answer_type="ordered_list", reasoning="眼", source="俱舍論", difficulty=2,
        prompt_traditional="", answer_traditional="",
    )
    for i, value in enumerate(VALUES)
]  # fmt: skip


def variety(completion: Completion, question: Question) -> float:
    """A component under which the groups of a policy that knows nothing are live."""
    return len(completion.text) % 5 / 5


SAMPLING = SamplingParams(max_new_tokens=8)
LENIENT = {"lenient": Regime.model_validate({"components": {"several.variety": {"weight": 1}}})}
GRPO = Grpo.model_validate(
    {"budget": 4, "prompts": 5, "group_size": 4, "max_grad_norm": 1.0, "tokens_per_micro_batch": 60,
     "checkpoint_every": 2, "validation": {"every": 1, "questions": 5}}
)  # fmt: skip
PRETRAINING = Pretraining.model_validate(
    {"vocab_size": 320, "steps": 3, "batch_size": 3, "sequence_length": 16, "schedule": {"warm_up": 2},
     "optimiser": {"learning_rate": 1e-3, "max_grad_norm": 1.0}}
)  # fmt: skip
WARMUP = Warmup.model_validate(
    {"max_steps": 4, "batch_size": 5, "optimiser": {"learning_rate": 1e-3, "max_grad_norm": 1.0},
     "tokens_per_micro_batch": 40, "until": {"regime": "lenient", "score": 1, "every": 2, "questions": 3, "samples": 2}}
)  # fmt: skip
HALF = 2


def start() -> Policy:
    return from_config(SIZES, train_tokenizer(LINES, 320), seed=1)


def way(work: Path, zero: int, last_step: int = 4) -> tuple[list[dict[str, Any]], Policy]:
    """Three steps of pre-training, four of SFT, then those of GRPO up to the last; the records of all."""
    records: list[dict[str, Any]] = []
    policy = start()
    for stage in ("base", "sft", "grpo"):
        (work / stage).mkdir(parents=True, exist_ok=True)
    settings = GrpoSettings(
        regime="lenient", reward=LENIENT["lenient"], scored=LENIENT, learning_rate=1e-4, first_step=0,
        last_step=last_step, until=None, sampling=SAMPLING, grpo=GRPO, validation=QUESTIONS,
    )  # fmt: skip
    runs = [Run(name, work / name, "same", 1, records.append, zero) for name in ("base", "sft", "grpo")]
    pretrain(policy, LINES, PRETRAINING, runs[0])
    warm_up(policy, QUESTIONS, QUESTIONS, WARMUP, SAMPLING, LENIENT, runs[1])
    train(policy, QUESTIONS, settings, runs[2])
    return records, policy


def adapted(folder: Path, zero: int) -> tuple[list[float], Policy]:
    """Four steps of adapters beside frozen weights in bfloat16, with gradient checkpointing: the gradients' norms."""
    policy = load(folder, Handling(dtype="bfloat16", gradient_checkpointing=True))
    add_lora(policy.model, Lora(rank=4, alpha=8), seed=1)
    engine = engine_for(policy, zero, learning_rate=1e-2, max_grad_norm=1.0)
    policy.model.train()
    prompt, gold = policy.encode_prompt("眼界？"), policy.encode_completion("<think>眼</think><answer>无见</answer>")
    own = range(4)[processes.rank() :: processes.world()]
    tokens, lengths = torch.tensor([gold] * len(own)), torch.tensor([len(gold)] * len(own))
    norms = []
    for _ in range(4):
        logprobs, _ = completion_logprobs(policy, [prompt] * len(own), torch.arange(len(own)), tokens, lengths)
        engine.backward(-logprobs.sum() / (4 * len(gold)))
        norms.append(engine.step())
    roll_out(engine, [prompt, prompt], 2, SAMPLING, seed=1, step=0)
    engine.finish()
    merge_lora(policy.model)
    return norms, policy


def main(folder: Path) -> None:
    start_up()
    processes.join()
    for zero in range(4):
        records, policy = way(folder / f"half-{zero}", zero, HALF)
        if processes.rank() == 0:
            (folder / f"zero-{zero}.json").write_text(json.dumps(records))
        records, policy = way(folder / f"half-{zero}", (zero + 1) % 4)  # from the checkpoints of the stage before
        if processes.rank() == 0:
            (folder / f"rest-{zero}.json").write_text(json.dumps(records))
            policy.save(folder / f"policy-{zero}")
    for zero in (2, 3):
        norms, policy = adapted(folder / "model", zero)
        if processes.rank() == 0:
            (folder / f"norms-{zero}.json").write_text(json.dumps(norms))
            policy.save(folder / f"adapted-{zero}")
    processes.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

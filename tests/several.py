"""What each of two processes does in test_processes.py, started by DeepSpeed's launcher: `several.py FOLDER`.

Under every ZeRO stage: warm-up and GRPO from the same start, a checkpoint half way, and the rest of the way from that
checkpoint under the next stage. The first process leaves what it saw in the folder.
"""

import json
import sys
from pathlib import Path
from typing import Any

from upaya import processes
from upaya.answers import Completion
from upaya.grpo.loop import Stage, train
from upaya.params import Grpo, Warmup
from upaya.policy import Policy, from_config, train_tokenizer
from upaya.questions import Question
from upaya.rewards.regimes import Regime
from upaya.sampling import SamplingParams
from upaya.sft import warm_up

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
     "checkpoint_every": 2}
)  # fmt: skip
WARMUP = Warmup.model_validate(
    {"max_steps": 4, "batch_size": 5, "optimiser": {"learning_rate": 1e-3, "max_grad_norm": 1.0},
     "tokens_per_micro_batch": 40, "until": {"regime": "lenient", "score": 1, "every": 2, "questions": 3, "samples": 2}}
)  # fmt: skip
HALF = 2


def start() -> Policy:
    return from_config(SIZES, train_tokenizer(LINES, 320), seed=1)


def way(work: Path, zero: int, last_step: int = 4) -> tuple[list[dict[str, Any]], Policy]:
    """Four steps of SFT, then those of GRPO up to the last; the records of both."""
    records: list[dict[str, Any]] = []
    policy = start()
    (work / "sft").mkdir(parents=True, exist_ok=True)
    warm_up(policy, QUESTIONS, QUESTIONS, WARMUP, SAMPLING, LENIENT, 1, work / "sft", "same", records.append, zero=zero)
    stage = Stage(
        name="lenient", regime="lenient", learning_rate=1e-4, first_step=0, last_step=last_step, until=None, seed=1,
        sampling=SAMPLING, grpo=GRPO, zero=zero,
    )  # fmt: skip
    train(policy, QUESTIONS, stage, LENIENT, LENIENT["lenient"], work / "grpo", "same", records.append)
    return records, policy


def main(folder: Path) -> None:
    processes.join()
    for zero in range(4):
        records, policy = way(folder / f"half-{zero}", zero, HALF)
        if processes.rank() == 0:
            (folder / f"zero-{zero}.json").write_text(json.dumps(records))
            (folder / f"half-{zero}/grpo").mkdir(exist_ok=True)
        records, policy = way(folder / f"half-{zero}", (zero + 1) % 4)  # from the checkpoints of the stage before
        if processes.rank() == 0:
            (folder / f"rest-{zero}.json").write_text(json.dumps(records))
            (folder / f"policy-{zero}").mkdir()
            policy.save(folder / f"policy-{zero}")
    processes.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

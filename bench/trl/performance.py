"""TRL's side of the measurement: GRPOTrainer on the shape that bench/performance.py has laid down in a folder.

Runs in TRL's own environment and imports nothing of the project: `python bench/trl/performance.py FOLDER`. Prints one
line of JSON: seconds of every step, of its rollout and of its update, tokens sampled, memory.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Timed(GRPOTrainer):
    """GRPOTrainer with a clock around its rollouts."""

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict:
        start = time.perf_counter()
        found = super()._generate_and_score_completions(inputs)
        self.rollout_seconds.append(time.perf_counter() - start)
        self.tokens.append(int(found["completion_mask"].sum()))
        return found


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.steps: list[float] = []

    def on_step_begin(self, *args: object, **kwargs: object) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self.steps.append(time.perf_counter() - self.start)


def main(folder: Path) -> None:
    shape = json.loads((folder / "shape.json").read_text())
    torch.set_num_threads(shape["threads"])
    prompts, group_size, rewards = shape["prompts"], shape["group_size"], shape["rewards"]
    clock = Clock()

    def reward(prompts: list[str], **kwargs: object) -> list[float]:
        return [rewards[int(text)][i % group_size] for i, text in enumerate(prompts)]

    rows = len(prompts) * group_size
    together = shape.get("rows_per_pass", rows)  # what the device's memory holds at once
    config = GRPOConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=together,
        gradient_accumulation_steps=rows // together,
        num_generations=group_size, max_completion_length=shape["max_new_tokens"], max_steps=shape["steps"],
        loss_type="dapo", scale_rewards="none", beta=0.0, temperature=1.0, min_p=shape["min_p"] or None,
        learning_rate=1e-6, max_grad_norm=0.1, lr_scheduler_type="constant", optim="adamw_torch",
        use_cpu=not shape["gpu"], bf16=shape["gpu"], gradient_checkpointing=False, report_to="none",
        shuffle_dataset=False,
        save_strategy="no", logging_steps=10_000, disable_tqdm=True,
    )  # fmt: skip
    dtype = torch.bfloat16 if shape["gpu"] else torch.float32
    trainer = Timed(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        reward_funcs=reward, args=config, callbacks=[clock],
        train_dataset=Dataset.from_dict({"prompt": [str(p) for p in range(len(prompts))]}),
    )  # fmt: skip
    trainer.rollout_seconds, trainer.tokens = [], []
    # The same prompt tokens and ends of completions as on the other side.
    trainer._tokenize_prompts = lambda texts: ([prompts[int(text)] for text in texts], None, {})
    trainer.eos_token_ids = trainer.generation_config.eos_token_id = shape["eos_ids"]
    before = resident()
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if shape["gpu"]:
        before, peak = 0.0, torch.cuda.max_memory_allocated() / 2**20
    steps = list(zip(clock.steps, trainer.rollout_seconds, trainer.tokens, strict=True))
    print(
        json.dumps(
            {
                "step": [step for step, _, _ in steps],
                "rollout": [rollout for _, rollout, _ in steps],
                "update": [step - rollout for step, rollout, _ in steps],
                "tokens": [tokens for _, _, tokens in steps],
                "peak_mb": peak,
                "before_mb": before,
            }
        )
    )


def resident() -> float:
    """MB that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main(Path(sys.argv[1]))

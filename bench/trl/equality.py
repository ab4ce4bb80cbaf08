"""TRL's side of the equality check: the loss and gradients of GRPOTrainer on given completions and rewards.

Runs in TRL's own environment and imports nothing of the project: `python bench/trl/equality.py FOLDER`, where
bench/equality.py has laid down a model, the batch and the cases, and reads back the results.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer


class Given(GRPOTrainer):
    """GRPOTrainer with the log-probabilities of the sampling policy and of the reference given."""

    given: dict[str, torch.Tensor] | None = None

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict:
        return super()._generate_and_score_completions(inputs) | (self.given or {})


def measure(folder: Path, case: dict, batch: dict, given: dict[str, torch.Tensor]) -> tuple[float, dict]:
    prompts, groups = batch["prompts"], batch["completions"]
    group_size = len(groups[0])

    def rollout(texts: list[str], trainer: GRPOTrainer) -> dict:
        places = [int(text) for text in texts[::group_size]]
        return {
            "prompt_ids": [prompts[p] for p in places for _ in range(group_size)],
            "completion_ids": [completion for p in places for completion in groups[p]],
            "logprobs": [[0.0] * len(completion) for p in places for completion in groups[p]],
        }

    def reward(prompts: list[str], **kwargs: object) -> list[float]:
        return [batch["rewards"][int(text)][i % group_size] for i, text in enumerate(prompts)]

    rows = len(prompts) * group_size
    kind = case["loss"]
    config = GRPOConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=rows, num_generations=group_size,
        max_completion_length=batch["max_new_tokens"], loss_type="grpo" if kind == "gspo" else kind,
        importance_sampling_level="sequence" if kind == "gspo" else "token", scale_rewards=case["scale"],
        epsilon=case["epsilon_low"], beta=case["kl"], mask_truncated_completions=case["mask_truncated"],
        use_bias_correction_kl=False,  # the papers' k3; TRL can weigh it by the ratio
        # TRL's bound for cispo is the ratio itself, ours (as in the paper) what it may exceed 1 by
        epsilon_high=case["epsilon_high"] + (1 if kind == "cispo" else 0),
        use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", shuffle_dataset=False,
        save_strategy="no", temperature=1.0,
    )  # fmt: skip
    trainer = Given(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        reward_funcs=reward, args=config, rollout_func=rollout,
        train_dataset=Dataset.from_dict({"prompt": [str(p) for p in range(len(prompts))]}),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    trainer.given = {}
    if case["off_policy"]:
        trainer.given["old_per_token_logps"] = given["old"]
    if case["kl"]:
        trainer.given["ref_per_token_logps"] = given["reference"]
    trainer.model.train()
    rows_in = [{"prompt": str(p)} for p in range(len(prompts)) for _ in range(group_size)]
    loss = trainer._compute_loss(trainer.model, trainer._generate_and_score_completions(rows_in))
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.item(), gradients


def main(folder: Path) -> None:
    batch, cases = (json.loads((folder / f"{name}.json").read_text()) for name in ("batch", "cases"))
    given = load_file(folder / "given.safetensors")
    losses = []
    for number, case in enumerate(cases):
        loss, gradients = measure(folder, case, batch, given)
        losses.append(loss)
        save_file(gradients, folder / f"gradients-{number}.safetensors")
    (folder / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Our loss and gradients beside those of TRL's GRPOTrainer: same weights, completions and rewards, float32.

    make bench-equality

Every loss type and scaling, on and off policy, with a divergence from a reference, with truncated completions masked;
unequal prompts and completions, and groups among which some are dead. TRL runs in an environment of its own.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor

from upaya.declared.grpo import Drop, Grpo, LossType, Scaling
from upaya.declared.sampling import SamplingParams
from upaya.policy.model import Policy, load
from upaya.sampling.decoding import Rollouts
from upaya.startup import start
from upaya.terminal import console
from upaya.training.completions.logprobs import completion_logprobs
from upaya.training.grpo.advantages import group_advantages
from upaya.training.grpo.batch import Batch
from upaya.training.grpo.credit import Earned
from upaya.training.grpo.update import update
from upaya.training.sft.from_scratch import from_config, train_tokenizer
from upaya.training.steps.engine import Engine

Measured = tuple[float, dict[str, Tensor]]  # a loss and its gradients by name
TRL = Path(".venv-trl/bin/python")
QUIET = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "PYTHONWARNINGS": "ignore"}
WITHIN = 1e-5
MAX_NEW_TOKENS = 12
LINES = ["眼界，有见／无见者，无见。", "色界，有见／无见者，有见。", "依次作答：无见、有对、善及不善。"] * 5
PROMPTS = ["眼界", "色界，有见／无见？", "依次作答：无见、有对。", "意界，善、不善、无记？"]
REWARDS = [
    [1.0, 0.0, 0.0, 0.5],
    [0.3, 0.3, 0.3, 0.3],
    [0.1, 0.2, 0.25, 0.9],
    [-1.0, -0.5, 1.0, 1.0],
]
ALL_LIVE = [
    *REWARDS[:1],
    [0.0, 0.0, 0.0, 1.0],
    *REWARDS[2:],
]  # TRL's dead groups still feel the divergence; ours do not


class Gradients(Engine):
    """An engine that keeps the gradients of the first step instead of taking steps."""

    found: dict[str, Tensor] | None = None

    def step(self, scale: float = 1.0) -> float:
        named = self.policy.model.named_parameters()
        self.found = self.found or {name: p.grad.clone() for name, p in named if p.grad is not None}
        self.optimiser.zero_grad()
        return 0.0


def cases() -> list[dict[str, Any]]:
    found = []
    for loss, scale, off_policy in product(get_args(LossType), get_args(Scaling), (False, True)):
        case = {"loss": loss, "scale": scale, "off_policy": off_policy, "kl": 0.0, "mask_truncated": False}
        found.append({**case, "epsilon_low": 0.2, "epsilon_high": 0.28})
    for loss in get_args(LossType):
        case = {"loss": loss, "scale": "none", "off_policy": True, "epsilon_low": 0.1, "epsilon_high": 0.1}
        found.append({**case, "kl": 0.0, "mask_truncated": True})
    for loss in get_args(LossType):
        case = {"loss": loss, "scale": "none", "off_policy": True, "epsilon_low": 0.1, "epsilon_high": 0.1}
        found.append({**case, "kl": 0.2, "mask_truncated": False})
    return found


def drawn(policy: Policy) -> Rollouts:
    """Four prompts with four random completions each, of 1 to MAX_NEW_TOKENS tokens; some cut off at the limit."""
    generator = torch.Generator().manual_seed(1)
    shape = (len(PROMPTS), 4, MAX_NEW_TOKENS)
    tokens = torch.randint(5, policy.model.config.vocab_size, shape, generator=generator)
    lengths = torch.randint(1, MAX_NEW_TOKENS + 1, shape[:2], generator=generator)
    lengths[0, 0] = lengths[3, 2] = MAX_NEW_TOKENS
    finished = lengths < MAX_NEW_TOKENS
    for p, g in product(range(shape[0]), range(shape[1])):
        tokens[p, g, lengths[p, g] :] = policy.pad_id
        if finished[p, g]:
            tokens[p, g, lengths[p, g] - 1] = policy.eos_ids[0]
    prompts = [policy.encode_prompt(prompt) for prompt in PROMPTS]
    return Rollouts(prompts, tokens, lengths, torch.zeros(shape), torch.zeros(shape), torch.zeros(shape), finished)


def ours(policy: Policy, reference: Policy, rollouts: Rollouts, case: dict[str, Any]) -> Measured:
    engine = Gradients(policy, learning_rate=1.0, max_grad_norm=1.0)
    loss = {key: case[key] for key in ("kl", "mask_truncated", "epsilon_low", "epsilon_high")}
    grpo = Grpo.model_validate(
        {
            "budget": 1, "prompts": len(PROMPTS), "group_size": 4, "max_grad_norm": 1.0, "checkpoint_every": 1,
            "tokens_per_micro_batch": 150, "scale_rewards": case["scale"], "iterations": 2 if case["off_policy"] else 1,
            "loss": {"type": case["loss"], "dead_groups_count": True, **loss},
        }
    )  # fmt: skip
    batch = Batch(Drop(type="drop"))
    batch.add(rollouts, Earned.as_a_whole(torch.tensor(rewards_of(case), dtype=torch.float64)), PROMPTS)
    made = update(
        policy, engine, batch, grpo, SamplingParams(max_new_tokens=MAX_NEW_TOKENS), reference if case["kl"] else None
    )
    assert made and engine.found
    return made.loss, engine.found


def main() -> None:
    if not TRL.exists():
        raise SystemExit(f"no {TRL}: run `make bench-equality`, which makes TRL's environment")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2}  # fmt: skip
    made = from_config({"model_type": "qwen2", **sizes}, train_tokenizer(LINES, 400), seed=1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "model").mkdir()
        made.save(folder / "model")
        policy, reference = load(folder / "model"), load(folder / "model")
        with torch.no_grad():
            generator = torch.Generator().manual_seed(2)
            for weight in reference.model.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.02)
        rollouts = drawn(policy)
        with torch.no_grad():
            rows, of_row = rollouts.tokens_PGT.flatten(0, 1), torch.arange(len(PROMPTS)).repeat_interleave(4)
            now, _ = completion_logprobs(policy, rollouts.prompts, of_row, rows, rollouts.lengths_PG.flatten())
            old = now + torch.randn(now.shape, generator=generator) * 0.3
            rollouts.logprobs_PGT = old.view(len(PROMPTS), 4, -1)
            away, _ = completion_logprobs(reference, rollouts.prompts, of_row, rows, rollouts.lengths_PG.flatten())
        save_file({"old": old, "reference": away}, folder / "given.safetensors")
        completions = [
            [row[:length] for row, length in zip(group, lengths, strict=True)]
            for group, lengths in zip(rollouts.tokens_PGT.tolist(), rollouts.lengths_PG.tolist(), strict=True)
        ]
        batch = {"prompts": rollouts.prompts, "completions": completions, "max_new_tokens": MAX_NEW_TOKENS}
        declared, theirs = cases(), list[Measured]()
        for rewards in (REWARDS, ALL_LIVE):
            chosen = [case for case in declared if rewards_of(case) is rewards]
            (folder / "batch.json").write_text(json.dumps({**batch, "rewards": rewards}))
            (folder / "cases.json").write_text(json.dumps(chosen))
            subprocess.run([str(TRL), "bench/trl/equality.py", str(folder)], check=True, env={**os.environ, **QUIET})
            for number, loss in enumerate(json.loads((folder / "losses.json").read_text())):
                theirs.append((loss, load_file(folder / f"gradients-{number}.safetensors")))
    report(declared, [ours(policy, reference, rollouts, case) for case in declared], theirs)


def rewards_of(case: dict[str, Any]) -> list[list[float]]:
    return ALL_LIVE if case["kl"] else REWARDS


def report(declared: list[dict[str, Any]], ours: list[Measured], theirs: list[Measured]) -> None:
    """A row per case; exit code 1 where one differs by more than WITHIN.

    Losses differ relative to the mean |advantage|, the size of the terms that are summed: centred within groups, they
    cancel, to exactly 0 in some cases. Gradients differ relative to their norm.
    """
    table = Table(title="ours against TRL, float32", title_justify="left")
    for column in ("loss", "scaling", "policy", "kl", "truncated", "ours", "TRL", "loss differs", "gradient differs"):
        table.add_column(column, justify="left" if column in ("loss", "scaling", "policy", "truncated") else "right")
    worst = 0.0
    for case, (loss, gradients), (their_loss, their_gradients) in zip(declared, ours, theirs, strict=True):
        assert gradients.keys() == their_gradients.keys()
        rewards = torch.tensor(rewards_of(case), dtype=torch.float64)
        terms = group_advantages(rewards, case["scale"]).abs().mean().item()
        size = math.sqrt(sum(gradient.double().square().sum().item() for gradient in their_gradients.values()))
        away = math.sqrt(
            sum((gradients[name] - their_gradients[name]).double().square().sum().item() for name in gradients)
        )
        differs = (abs(loss - their_loss) / terms, away / size)
        worst = max(worst, *differs)
        table.add_row(
            case["loss"], case["scale"], "off" if case["off_policy"] else "on", f"{case['kl']:g}",
            "masked" if case["mask_truncated"] else "", f"{loss:.6f}", f"{their_loss:.6f}",
            *(f"{share:.1e}" for share in differs),
        )  # fmt: skip
    console.print(table)
    console.print(f"worst relative difference over {len(declared)} cases: {worst:.1e} (asked: {WITHIN:g})")
    sys.exit(0 if worst <= WITHIN else 1)


if __name__ == "__main__":
    start()
    main()

"""One step of the training stages on random weights in a real model's shape: peak memory beside what `upaya plan` says.

    python -m bench.gpu.memory     # Qwen2.5-3B's shape in bfloat16 on a GPU; one of 25 M in float32 where there is none
    python -m bench.gpu.memory --model qwen2.5-0.5b-instruct

With all weights and with adapters, each in a process of its own: warm-up, then GRPO. (Pre-training is for models made
from nothing.)
The estimate is of the largest of these. On a CPU the peak is that of the whole process. Needs what `make run` builds
(questions, tokenizer).
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM

from bench.performance import LARGER
from upaya.corpus.questions import read
from upaya.declared.curricula import load_curricula
from upaya.declared.launch import Launch
from upaya.declared.model import Lora, ModelFile, load_model_file
from upaya.errors import UserError, shown_to_user
from upaya.measuring.memory import GB, Lengths, Needs
from upaya.measuring.plan import OVERHEAD
from upaya.measuring.plan import estimate as planned
from upaya.policy.adapters import add_lora
from upaya.policy.model import Policy, checkpoint_layers, load, silence_padding
from upaya.rewards.regimes import load_regimes
from upaya.startup import start
from upaya.terminal import console
from upaya.training.grpo.loop import GrpoSettings, train
from upaya.training.sft.warmup import warm_up
from upaya.training.steps import processes
from upaya.training.steps.run import Run

BASE = Path("policies/base")
ADAPTERS = Lora(rank=32, alpha=64)


def declared(name: str | None, adapters: bool) -> ModelFile:
    """The model file that is measured: by name, else by what this machine can hold."""
    if name or torch.cuda.is_available():
        found = load_model_file(name or "qwen2.5-3b-instruct")
        if not found.shape:
            raise UserError(f"params/models/{name}.yaml gives no `shape`: there is nothing to make random weights of")
    else:
        shape = {**LARGER, "vocab_size": len(load(BASE).tokenizer)}
        found = ModelFile(hub="none/none", shape=shape, gradient_checkpointing=True)
    return found.model_copy(update={"lora": ADAPTERS if adapters else None})


def estimate(model: ModelFile) -> Needs:
    curricula = load_curricula(load_regimes())
    questions = read(Path("questions"), "train", curricula.questions)
    tokenizer = load(BASE)
    longest = max(len(tokenizer.encode_prompt(question.prompt)) for question in questions)
    shown = max(len(tokenizer.encode_completion(question.gold)) for question in questions)
    return planned(curricula, model, Launch(), Lengths(longest, shown))


def random_policy(model: ModelFile) -> Policy:
    """Random weights in a model's shape, as `load` would have put them there."""
    shape = dict(model.shape or {})
    tokenizer = load(BASE).tokenizer
    config = AutoConfig.for_model(shape.pop("model_type"), **shape, eos_token_id=tokenizer.eos_token_id)
    torch.manual_seed(1)
    with processes.device():
        made: Any = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, model.dtype), attn_implementation="sdpa"
        )
    policy = Policy(made, tokenizer)
    silence_padding(policy)
    if model.gradient_checkpointing:
        checkpoint_layers(made)
    return policy


def peak() -> float:
    """Bytes: of the device, or of this process since it began."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) + OVERHEAD["cuda"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def worker(name: str | None, adapters: bool) -> None:
    """The stages one after another; prints a line of JSON with the peak and the seconds after each."""
    regimes, found = load_regimes().plain, dict[str, tuple[float, float]]()
    curricula = load_curricula(load_regimes())
    model = declared(name, adapters)
    policy = random_policy(model)
    if model.lora:
        add_lora(policy.model, model.lora, seed=1)
    questions = read(Path("questions"), "train", curricula.questions)[:64]
    until = curricula.warmup.until.model_copy(update={"questions": 1, "samples": 1, "every": 1})
    warmup = curricula.warmup.model_copy(update={"max_steps": 1, "until": until})
    with tempfile.TemporaryDirectory() as folder:

        def timed(stage: str, start: float) -> None:
            found[stage] = (peak(), time.perf_counter() - start)

        start = time.perf_counter()
        warm_up(
            policy, questions, questions, warmup, curricula.sampling, regimes,
            Run("warmup", Path(folder) / "warmup", "bench", 1, lambda record: None),
        )  # fmt: skip
        timed("warmup", start)
        settings = GrpoSettings(
            regime="lenient", reward=regimes["lenient"], scored=regimes, learning_rate=1e-6, first_step=0, last_step=1,
            until=None, sampling=curricula.sampling, grpo=curricula.grpo.model_copy(update={"checkpoint_every": 1}),
        )  # fmt: skip
        start = time.perf_counter()
        train(policy, questions, settings, Run("lenient", Path(folder) / "l", "bench", 1, lambda record: None))
        timed("GRPO", start)
    print("FOUND " + json.dumps(found), flush=True)


def main(
    model: Annotated[str | None, typer.Option(help="a file under params/models/ with a shape")] = None,
    worker_: Annotated[str | None, typer.Option("--worker", hidden=True)] = None,
) -> None:
    if not BASE.exists():
        raise UserError(
            f"no {BASE}: the bench takes its questions and tokenizer from the default curriculum; `make run`"
        )
    if worker_:
        worker(model, worker_ == "adapters")
        return
    if not torch.cuda.is_available():
        console.print("no GPU here: the shape of Qwen2.5-3B was not run")
    table = Table(title="peak memory in GB, and seconds of one step with all that is around it", title_justify="left")
    for column in ("weights", "estimate", "warmup", "GRPO", "peak / estimate"):
        table.add_column(column, justify="left" if column == "weights" else "right")
    for kind in ("all", "adapters"):
        command = [sys.executable, "-m", "bench.gpu.memory", "--worker", kind, *(["--model", model] if model else [])]
        out = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
        lines = [line for line in out.stdout.splitlines() if line.startswith("FOUND ")]
        if not lines:
            raise UserError(f"the stages failed with {kind} weights:\n{out.stderr[-2000:]}")
        found = json.loads(lines[-1].removeprefix("FOUND "))
        expected = estimate(declared(model, kind == "adapters")).peak
        cells = [f"{found[stage][0] / GB:.2f} ({found[stage][1]:.1f} s)" for stage in ("warmup", "GRPO")]
        most = max(value[0] for value in found.values())
        table.add_row(kind, f"{expected / GB:.2f}", *cells, f"{most / expected:.2f}")
    console.print(table)


if __name__ == "__main__":
    start()
    with shown_to_user():
        typer.run(main)

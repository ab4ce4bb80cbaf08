"""`upaya plan`: what a model needs under every launch, in memory, on the disk and in time (memory.py and roofline.py
beside this)."""

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import psutil
from rich.table import Table
from tokenizers import Tokenizer

from upaya.corpus.questions import read_split
from upaya.declared.curricula import Curricula
from upaya.declared.launch import Launch, load_launch
from upaya.declared.model import ModelFile, load_model_file
from upaya.errors import LESS_MEMORY, UserError
from upaya.measuring.memory import GB, Lengths, Needs, checkpoints, needs, policy
from upaya.measuring.roofline import Machine, declared, step_seconds
from upaya.measuring.shape import Shape, shape_of
from upaya.paths import LAUNCHES, POLICIES, QUESTIONS
from upaya.records.policies import provenance
from upaya.rewards.regimes import load_regimes
from upaya.terminal import console

TRAIN = QUESTIONS / "train.jsonl"
TEMPLATE = 16  # tokens that a chat template puts around a prompt
LONGEST = 50  # in characters, among which the longest in tokens is looked for

# Of a stage with a model of nothing: the interpreter, the libraries and MLflow's client (python -m bench.plan); on a
# GPU its context and fragmentation.
OVERHEAD = {"cpu": 0.56 * GB, "cuda": 1.5 * GB}
# What oneDNN, which multiplies matrices of bfloat16 on a CPU, keeps for each size that it has met: two of attention for
# each place of a completion, the last 1024 at the most.
KERNEL, KERNELS = 0.6e6, 1024
QUESTION = 2.7  # bytes that a byte of train.jsonl takes once it is read
PARTS = {
    "weights": "weights", "reference": "reference, for grpo.loss.kl", "gradients": "gradients",
    "optimiser": "optimiser's state, float32 weights", "activations": "activations of a micro-batch",
    "scores": "attention's masks", "logits": "logits and loss", "backward": "a layer's backward pass",
    "gathered": "whole weights, gathered", "cache": "keys and values", "draws": "logits drawn from",
    "saving": "a checkpoint's tensor", "overhead": "interpreter, libraries",
}  # fmt: skip


@cache
def gpu_memory() -> list[float]:
    """Bytes of each GPU, as its driver's tool says it; empty where there is none. (torch would take seconds.)"""
    if not shutil.which("nvidia-smi"):
        return []
    asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    return [float(line) * 2**20 for line in said.stdout.splitlines()] if said.returncode == 0 else []


def device_memory(launch: Launch) -> float:
    """Bytes that one process may take: as declared, else those of this machine's GPU or its share of the RAM."""
    if launch.device_memory:
        return launch.device_memory * GB
    if gpu_memory():
        return gpu_memory()[0]
    return float(psutil.virtual_memory().total) / launch.processes


def is_on_gpu(launch: Launch) -> bool:
    return bool(launch.device_memory or gpu_memory())


def overhead(on_gpu: bool) -> float:
    """Bytes that a stage takes beside all tensors, on its device."""
    if on_gpu:
        return OVERHEAD["cuda"]
    return OVERHEAD["cpu"] + (QUESTION * TRAIN.stat().st_size if TRAIN.is_file() else 0.0)


def estimate(curricula: Curricula, model: ModelFile, launch: Launch, lengths: Lengths) -> Needs:
    """What a process of the stages that train a model needs. Raises UserError for a model whose sizes are unknown."""
    bonus = any(regime.entropy > 0 for regime in load_regimes().plain.values())
    on_gpu = is_on_gpu(launch)
    beside = overhead(on_gpu)
    if model.dtype == "bfloat16" and not on_gpu:
        beside += KERNEL * min(KERNELS, 2 * curricula.sampling.max_new_tokens)
    return needs(shape_of(model), model, curricula, launch, lengths, on_gpu=on_gpu, overhead=beside, entropies=bonus)


def lengths_of(curricula: Curricula, model: ModelFile) -> Lengths:
    """The longest prompt and the longest completion shown, among the questions that are trained on: in tokens where the
    tokenizer is at hand, else a character taken for a token, which is too much rather than too little."""
    if not TRAIN.is_file():
        return Lengths()
    asked = [curricula.asked(name) for name in ("warmup", *curricula.policies)]
    questions = [
        each for each in read_split(QUESTIONS, "train") if any(s.holds(each.kind, each.difficulty) for s in asked)
    ]
    if not questions:
        return Lengths()
    tokenizer = _tokenizer_of(model)

    def longest(texts: Iterable[str]) -> int:
        ordered = sorted(texts, key=len)[-LONGEST:]
        return max(len(tokenizer.encode(text).ids) if tokenizer else len(text) for text in ordered)

    around = TEMPLATE if model.chat else 1
    if model.system_prompt:
        around += longest([model.system_prompt])
    return Lengths(longest(each.prompt for each in questions) + around, longest(each.gold for each in questions) + 1)


def _tokenizer_of(model: ModelFile) -> Tokenizer | None:
    """That of a model in a folder, or of the base policy where that was made of this model; None elsewhere."""
    folder = Path(model.path).expanduser() if model.path else POLICIES / "base"
    if not (folder / "tokenizer.json").is_file() or (
        not model.path and provenance("base").get("source") != model.source
    ):
        return None
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # as which the tokenizers library raises everything; the stage says what is wrong
        if type(error) is not Exception:
            raise
        return None


def show(curricula: Curricula, name: str, machine: Machine | None = None) -> None:
    """A table for one model, a column for every launch under params/launch/, the chosen one marked.

    Args:
        machine: what this machine shows, for the launches that are its own.
    """
    model = load_model_file(name)
    shape, lengths = shape_of(model), lengths_of(curricula, model)
    what = f"LoRA of rank {model.lora.rank}" if model.lora else "all weights"
    table = Table(
        title=f"{name}: {shape.parameters / 1e6:,.1f} M parameters, {shape.trained / 1e6:,.1f} M trained ({what}), "
        f"{model.dtype}{', gradient checkpointing' if model.gradient_checkpointing else ''}; prompts of up to "
        f"{lengths.prompt} tokens. GB of each process, at the fullest moment of warm-up and GRPO:",
        title_justify="left",
    )
    table.add_column("", no_wrap=True)
    columns = []
    for path in sorted(LAUNCHES.glob("*.yaml")):
        table.add_column(f"{path.stem}{' ◀' if path.stem == curricula.launch else ''}", justify="right")
        launch = load_launch(path.stem)
        columns.append(_column(curricula, model, shape, launch, lengths, declared(launch) or _own(launch, machine)))
    for row in columns[0]:
        table.add_row(row, *(column[row] for column in columns), end_section=row in ("ZeRO", "fits"))
    console.print(table)
    for file, size in (("a stage's checkpoints", checkpoints(shape)), ("a published policy", policy(shape, model))):
        console.print(f"disk: {file}: {size / GB:.2f} GB")


def _own(launch: Launch, machine: Machine | None) -> Machine | None:
    """What this machine shows, where the launch is one process on it: several would share what it does."""
    return machine if launch.is_plain and launch.device_memory is None else None


def _column(
    curricula: Curricula, model: ModelFile, shape: Shape, launch: Launch, lengths: Lengths, machine: Machine | None
) -> Mapping[str, str]:
    needed, have = estimate(curricula, model, launch, lengths), device_memory(launch)
    rows = {"processes": str(launch.processes), "ZeRO": str(launch.zero)}
    rows |= {said: f"{getattr(needed, part) / GB:.2f}" for part, said in PARTS.items()}
    rows |= {
        "peak": f"{needed.peak / GB:.2f}",
        "of": f"{have / GB:.0f}",
        "fits": "yes" if needed.peak <= have else "NO",
    }
    # At the most: weights that are in the declared type are mapped from their files, one copy for all processes.
    host = needed.peak if not is_on_gpu(launch) else overhead(on_gpu=False) + needs_on_host(shape, model)
    rows["the machine's memory"] = f"{host / GB:.2f}"
    spent = step_seconds(shape, model, curricula, launch, lengths, machine) if machine else None
    rows["seconds of a step: rollout"] = f"{spent[0]:.3g}" if spent else "not known"
    rows["update, at the least"] = f"{spent[1]:.3g}" if spent else "not known"
    return rows


def needs_on_host(shape: Shape, model: ModelFile) -> float:
    return float(shape.parameters * (2 if model.dtype == "bfloat16" else 4))


def share_of_memory(curricula: Curricula, launch: Launch) -> float:
    """What each process will ask for, over what it may take; 0 where that is not known. Prints a line where it is above
    1; the run goes on, for an estimate may be wrong."""
    model, have = load_model_file(curricula.model), device_memory(launch)
    try:
        needed = estimate(curricula, model, launch, lengths_of(curricula, model))
    except (UserError, AttributeError):  # an architecture that this arithmetic does not know
        return 0.0
    if needed.peak > have:
        console.print(
            f"warning: {curricula.model} needs some {needed.peak / GB:.1f} GB in each process, which has "
            f"{have / GB:.1f}: the run will probably not fit. {LESS_MEMORY}"
        )
    return needed.peak / have

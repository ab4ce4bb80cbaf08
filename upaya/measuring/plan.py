"""What a model and its settings need in memory, before anything is loaded: the arithmetic behind `upaya plan`.

Bytes per parameter as in Rajbhandari et al. 2020 ("ZeRO", §3): weights and gradients in the model's precision, AdamW's
two moments and the float32 weights that it moves. What is shared out among N processes is divided by N: the optimiser's
state from ZeRO stage 1 on, gradients from 2 on, weights at 3.
"""

import math
import shutil
import subprocess
from dataclasses import asdict, dataclass, fields
from functools import cache

import psutil
from rich.table import Table

from upaya.corpus.questions import read_split
from upaya.declared.curricula import Curricula
from upaya.declared.launch import Launch, load_launch
from upaya.declared.model import ModelFile, load_model_file
from upaya.declared.sampling import ROWS_AT_ONCE
from upaya.errors import LESS_MEMORY, UserError
from upaya.measuring.shape import Shape, shape_of
from upaya.paths import LAUNCHES, QUESTIONS
from upaya.terminal import console

GB = 1e9

TRAIN = QUESTIONS / "train.jsonl"

PROMPT_TOKENS = 256  # where no questions have been built yet

SAMPLING_BYTES = (
    28  # a logit while a token is drawn: itself, log-probability, probability, kept, and the sum in float64
)

OVERHEAD = {"cpu": 0.7 * GB, "cuda": 1.5 * GB}  # the interpreter and libraries; on a GPU its context and fragmentation


@dataclass(frozen=True)
class Needs:
    """Bytes that each process needs.

    Attributes:
        gathered: the whole weights at ZeRO stage 3, while it samples.
        activations: of one micro-batch of an update, its logits included.
        cache: keys and values of the completions that are decoded side by side, and the logits they are drawn from.
        overhead: what is there before any model.
    """

    weights: float
    gradients: float
    optimiser: float
    gathered: float
    activations: float
    cache: float
    overhead: float

    @property
    def peak(self) -> float:
        """An update holds gradients and activations, a rollout the cache and, at stage 3, the whole weights."""
        always = self.weights + self.optimiser + self.overhead
        return always + max(self.gradients + self.activations, self.gathered + self.cache)


def needs(shape: Shape, model: ModelFile, curricula: Curricula, launch: Launch, prompt_tokens: int) -> Needs:
    """The arithmetic, for the policy that is trained; a reference (grpo.loss.kl above 0) is one more set of weights."""
    width = 2 if model.dtype == "bfloat16" else 4
    share = launch.processes
    copies = 2 if curricula.grpo.loss.kl > 0 else 1
    weights = shape.parameters * width * copies
    trained_width = 4 if model.lora else width  # adapters are in float32
    kept = 8 if trained_width == 4 and not launch.zero else 12  # moments, and float32 weights where there are none yet
    gradient = (
        trained_width if launch.zero or trained_width == 4 else 4 + trained_width
    )  # then of the float32 copies too
    tokens = max(curricula.grpo.tokens_per_micro_batch, curricula.warmup.tokens_per_micro_batch)
    in_layer = 6 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 4 * shape.intermediate
    if model.lora:  # beside each linear layer's output the adapter's, before and after it is scaled
        in_layer += 2 * (shape.queries + 2 * shape.keys + 2 * shape.hidden + 2 * shape.intermediate)
    in_layers = shape.hidden * shape.layers + in_layer if model.gradient_checkpointing else in_layer * shape.layers
    rows = min(ROWS_AT_ONCE, math.ceil(curricula.grpo.prompts / share) * curricula.grpo.group_size)
    held = rows * curricula.sampling.max_new_tokens + math.ceil(rows / curricula.grpo.group_size) * prompt_tokens
    return Needs(
        weights=weights / (share if launch.zero == 3 else 1),
        gradients=shape.trained * gradient / (share if launch.zero >= 2 else 1),
        optimiser=shape.trained * kept / (share if launch.zero >= 1 else 1),
        gathered=weights if launch.zero == 3 else 0.0,
        activations=tokens * (in_layers + shape.vocabulary) * width,
        cache=held * shape.layers * 2 * shape.keys * width + rows * shape.vocabulary * SAMPLING_BYTES,
        overhead=OVERHEAD["cuda" if launch.device_memory or gpu_memory() else "cpu"],
    )


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


def show(curricula: Curricula, name: str) -> None:
    """A table for one model: every launch under params/launch/, the chosen one marked."""
    model, longest = load_model_file(name), _prompt_tokens()
    shape = shape_of(model)
    what = f"LoRA of rank {model.lora.rank}" if model.lora else "all weights"
    table = Table(
        title=f"{name}: {shape.parameters / 1e6:,.1f} M parameters, {shape.trained / 1e6:,.1f} M trained ({what}), "
        f"{model.dtype}{', gradient checkpointing' if model.gradient_checkpointing else ''}. GB of each process:",
        title_justify="left",
    )
    table.add_column("launch", no_wrap=True)
    for column in ("processes", "ZeRO", *(field.name for field in fields(Needs)), "peak", "of", "fits"):
        table.add_column(column, justify="right")
    for path in sorted(LAUNCHES.glob("*.yaml")):
        launch = load_launch(path.stem)
        needed, have = needs(shape, model, curricula, launch, longest), device_memory(launch)
        table.add_row(
            f"{path.stem}{' ◀' if path.stem == curricula.launch else ''}", str(launch.processes), str(launch.zero),
            *(f"{value / GB:.2f}" for value in asdict(needed).values()),
            f"{needed.peak / GB:.2f}", f"{have / GB:.0f}", "yes" if needed.peak <= have else "NO",
        )  # fmt: skip
    console.print(table)


def warn_where_it_cannot_fit(curricula: Curricula, launch: Launch) -> None:
    """One line where the estimate is beyond the memory there is; the run goes on, for an estimate may be wrong."""
    model, have = load_model_file(curricula.model), device_memory(launch)
    try:
        needed = needs(shape_of(model), model, curricula, launch, _prompt_tokens())
    except (UserError, AttributeError):  # an architecture that this arithmetic does not know
        return
    if needed.peak > have:
        console.print(
            f"warning: {curricula.model} needs some {needed.peak / GB:.1f} GB in each process, which has "
            f"{have / GB:.1f}: the run will probably not fit. {LESS_MEMORY}"
        )


def _prompt_tokens() -> int:
    """The longest prompt, a character taken for a token, which is too much rather than too little."""
    if not TRAIN.is_file():
        return PROMPT_TOKENS
    return max((len(question.prompt) for question in read_split(QUESTIONS, "train")), default=PROMPT_TOKENS)

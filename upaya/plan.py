"""What a model and its settings need in memory, before anything is loaded: the arithmetic behind `upaya plan`.

Bytes per parameter as in Rajbhandari et al. 2020 ("ZeRO", §3): weights and gradients in the model's precision, AdamW's
two moments and the float32 weights that it moves. What is shared out among N processes is divided by N: the optimiser's
state from ZeRO stage 1 on, gradients from 2 on, weights at 3.
"""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM

from upaya.errors import LESS_MEMORY, UserError
from upaya.files import read_jsonl
from upaya.lora import Lora, linear_layers
from upaya.params import LAUNCHES, Curricula, Launch, ModelFile, load_launch, load_model_file
from upaya.progress import console
from upaya.sampling import ROWS_AT_ONCE

GB = 1e9
TRAIN = Path("questions/train.jsonl")
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


@dataclass(frozen=True)
class Shape:
    """What of an architecture the arithmetic needs; sizes in elements."""

    parameters: int
    trained: int
    layers: int
    hidden: int
    intermediate: int
    queries: int
    keys: int
    vocabulary: int


def shape_of(model: ModelFile) -> Shape:
    """The sizes of a model, from its configuration alone.

    Raises:
        UserError: the configuration of a hub model is not at hand and its file gives no `shape`.
    """
    config = _config(model)
    if model.pretraining:  # its tokenizer is yet to be trained
        config.vocab_size = model.pretraining.vocab_size
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config)
    parameters = sum(p.numel() for p in built.parameters())
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(
        parameters=parameters,
        trained=_adapters(built, model.lora) if model.lora else parameters,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        queries=heads * size,
        keys=(getattr(config, "num_key_value_heads", None) or heads) * size,
        vocabulary=config.vocab_size,
    )


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
        overhead=OVERHEAD["cuda" if launch.device_memory or torch.cuda.is_available() else "cpu"],
    )


def device_memory(launch: Launch) -> float:
    """Bytes that one process may take: as declared, else those of this machine's GPU or its share of the RAM."""
    if launch.device_memory:
        return launch.device_memory * GB
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
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
    table.add_column("launch")
    for column in ("processes", "ZeRO", *(field.name for field in fields(Needs)), "peak", "of", "fits"):
        table.add_column(column, justify="right")
    for path in sorted(LAUNCHES.glob("*.yaml")):
        launch = load_launch(path.stem)
        found, have = needs(shape, model, curricula, launch, longest), device_memory(launch)
        table.add_row(
            f"{path.stem}{' ◀' if path.stem == curricula.launch else ''}", str(launch.processes), str(launch.zero),
            *(f"{value / GB:.2f}" for value in asdict(found).values()),
            f"{found.peak / GB:.2f}", f"{have / GB:.0f}", "yes" if found.peak <= have else "NO",
        )  # fmt: skip
    console.print(table)


def warn_where_it_cannot_fit(curricula: Curricula, launch: Launch) -> None:
    """One line where the estimate is beyond the memory there is; the run goes on, for an estimate may be wrong."""
    model, have = load_model_file(curricula.model), device_memory(launch)
    try:
        found = needs(shape_of(model), model, curricula, launch, _prompt_tokens())
    except (UserError, AttributeError):  # an architecture that this arithmetic does not know
        return
    if found.peak > have:
        console.print(
            f"warning: {curricula.model} needs some {found.peak / GB:.1f} GB in each process, which has "
            f"{have / GB:.1f}: the run will probably not fit. {LESS_MEMORY}"
        )


def _config(model: ModelFile) -> Any:
    settings = model.architecture or model.shape
    if settings:
        settings = dict(settings)
        try:
            return AutoConfig.for_model(settings.pop("model_type"), **settings)
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"the model file's 'architecture' or 'shape' describes no model: {error}") from None
    try:
        return AutoConfig.from_pretrained(str(model.source))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the configuration of {model.source} is not at hand ({reason}): give its sizes under `shape` in the "
            "model's file, or its folder as `path`"
        ) from None


def _adapters(model: torch.nn.Module, lora: Lora) -> int:
    targets = linear_layers(model) if lora.targets == "all-linear" else lora.targets
    return sum(
        lora.rank * (module.in_features + module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] in targets
    )


def _prompt_tokens() -> int:
    """The longest prompt, a character taken for a token, which is too much rather than too little."""
    if not TRAIN.is_file():
        return PROMPT_TOKENS
    return max((len(line["prompt"]) for _, line in read_jsonl(TRAIN)), default=PROMPT_TOKENS)

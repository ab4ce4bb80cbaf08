"""params/models/*.yaml: a model from scratch or one that exists, and how it is loaded and spoken to."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from upaya.declared.validation import MOST, Betas, Declared, Size, load_yaml
from upaya.errors import UserError, nearest
from upaya.paths import CURRICULA, MODELS, NO_FILES

MOST_OF = {  # of what transformers' configurations call so: models a hundred times the largest
    "num_hidden_layers": 10_000,
    "num_attention_heads": 10_000,
    "num_key_value_heads": 10_000,
    "head_dim": 100_000,
    "hidden_size": MOST,
    "intermediate_size": MOST,
    "vocab_size": 100 * MOST,
    "max_position_embeddings": 100 * MOST,
}
MAY_BE_NULL = ("num_key_value_heads", "head_dim")  # then they follow from the others


class Optimiser(Declared):
    """AdamW with gradient clipping."""

    learning_rate: float = Field(gt=0)
    max_grad_norm: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: Betas = (0.9, 0.95)


class RateSchedule(Declared):
    """How the learning rate moves over a stage: up to its declared value over the first `warm_up` steps, then to `to`
    times that value at the end of what the stage may take, in a straight line or along half a cosine."""

    type: Literal["constant", "linear", "cosine"] = "constant"
    to: float = Field(default=0.0, ge=0, le=1)
    warm_up: int = Field(default=0, ge=0)

    def at(self, step: int, steps: int) -> float:
        """What the declared rate is multiplied by at a step (from 0) of so many."""
        rising = min(1.0, (step + 1) / (self.warm_up + 1))
        gone = min(1.0, step / max(1, steps))
        match self.type:
            case "constant":
                return rising
            case "linear":
                return rising * (1 - (1 - self.to) * gone)
            case "cosine":
                return rising * (self.to + (1 - self.to) * (1 + math.cos(math.pi * gone)) / 2)


class Pretraining(Declared):
    """How a model made from scratch learns to read the corpus."""

    vocab_size: int = Field(ge=300, le=MOST)
    steps: int = Field(gt=0)
    batch_size: Size
    sequence_length: int = Field(gt=1, le=MOST)
    schedule: RateSchedule = RateSchedule(type="linear", to=0.1, warm_up=20)
    optimiser: Optimiser


class Lora(Declared):
    """W + (alpha / rank) · B · A in place of W, with A [rank, in] and B [out, rank]; only A and B are trained."""

    rank: Size
    alpha: Size
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = Field(
        default="all-linear", description="names of modules (q_proj, …), or all linear layers but the head"
    )
    merge: bool = Field(
        default=False,
        description="publish policies with the adapters merged into their weights, and begin the next stage with new "
        "ones; else the next stage goes on with the same. In bfloat16 a merged policy is not quite the trained one",
    )


class Handling(Declared):
    """How a model is loaded and spoken to: what holds for any model in params/models/."""

    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="of the weights")
    attention: Literal["sdpa"] = Field(
        default="sdpa", description="of prompts; completions have functions of their own (packing, shared_prefix)"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="keep only each layer's input for the backward pass, and compute the rest again"
    )
    chat: bool = Field(default=True, description="prompts go through the tokenizer's chat template")
    system_prompt: str | None = None
    lora: Lora | None = Field(default=None, description="train adapters instead of all weights")


class ModelFile(Handling):
    """params/models/*.yaml: a model from scratch (architecture and pretraining), or one that exists (path or hub)."""

    path: str | None = None
    hub: str | None = None
    revision: str | None = Field(default=None, description="commit of the hub's repository; None: its newest")
    shape: dict[str, Any] | None = Field(
        default=None, description="the configuration of a hub model, for `upaya plan` where it is not yet at hand"
    )
    architecture: dict[str, Any] | None = None
    pretraining: Pretraining | None = None

    @field_validator("architecture", "shape")
    @classmethod
    def sizes_are_sizes(cls, settings: dict[str, Any] | None) -> dict[str, Any] | None:
        for key, most in MOST_OF.items():
            value = (settings or {}).get(key, 1)
            if value is None and key in MAY_BE_NULL:
                continue
            if type(value) is not int or not 0 < value <= most:
                raise ValueError(f"{key} is {value!r}; expected a whole number from 1 to {most:,}")
        if settings is not None and not isinstance(settings.get("model_type"), str):
            raise ValueError("model_type is missing; expected the name of a family of transformers, such as llama")
        return settings

    @model_validator(mode="after")
    def one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.path, self.hub, self.architecture)) != 1:
            raise ValueError("give exactly one of 'path', 'hub' and 'architecture'")
        if (self.architecture is None) != (self.pretraining is None):
            raise ValueError("'architecture' and 'pretraining' go together")
        if self.revision and not self.hub:
            raise ValueError("'revision' is of a 'hub' model")
        positions = (self.architecture or {}).get("max_position_embeddings")
        if self.pretraining and positions and self.pretraining.sequence_length > positions:
            raise ValueError(
                f"pretraining.sequence_length is {self.pretraining.sequence_length}, but the architecture has "
                f"max_position_embeddings {positions}"
            )
        return self

    @property
    def source(self) -> str | None:
        return self.path or self.hub


def model_file(name: str) -> Path:
    """The file that declares a model. Raises UserError where there is none of that name."""
    path = MODELS / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in MODELS.glob("*.yaml")]
        raise UserError(f"{CURRICULA}: key 'model': no file {path}; {nearest(name, known)}")
    return path


def load_model_file(name: str) -> ModelFile:
    return load_yaml(model_file(name), ModelFile)


def need_watched(name: str, model: ModelFile, watched: str, path: Path = CURRICULA) -> None:
    """Raises UserError unless DVC watches the files of a model that is given by its path.

    Args:
        watched: what params/curricula.yaml says under `model_files`, which dvc.yaml reads.
    """
    files = model.path or str(NO_FILES)
    if Path(watched) != Path(files):
        raise UserError(
            f"{path}: key 'model_files' is {watched!r}, but {MODELS / name}.yaml "
            f"{'gives the path' if model.path else 'gives no path; then it is'} {files!r}: write "
            f"`model_files: {files}`, so that a change in the model's files is seen"
        )

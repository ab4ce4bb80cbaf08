"""The sizes of a model, from its configuration alone.

For the families of the table below by arithmetic, without importing torch; for any other by building it without memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upaya.declared.model import Lora, ModelFile
from upaya.declared.validation import validated
from upaya.errors import UserError
from upaya.files import read_json

NEEDED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "tie_word_embeddings",
)


@dataclass(frozen=True)
class Family:
    """What a decoder layer has beside four projections of attention, three of a gated MLP and two norms.

    Attributes:
        biases: of the projections of queries, keys and values.
        head_norms: norms of queries and keys, over each head or over all heads together.
    """

    biases: bool = False
    head_norms: str | None = None


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(biases=True),
    "qwen3": Family(head_norms="each"),
    "olmo2": Family(head_norms="all"),
}


@dataclass(frozen=True)
class Shape:
    """What of an architecture the arithmetic of memory needs; sizes in elements.

    Attributes:
        queries, keys: of a token, over all heads.
        normed: of its queries and keys, what goes through norms of their own.
        rank: of adapters; 0 where all weights are trained.
    """

    parameters: int
    trained: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    queries: int
    keys: int
    vocabulary: int
    normed: int = 0
    rank: int = 0


def shape_of(model: ModelFile) -> Shape:
    """The sizes of a declared model.

    Raises:
        UserError: the configuration of a hub model is not at hand and its file gives no `shape`.
    """
    config = _config(model)
    if model.pretraining:  # its tokenizer is yet to be trained
        config["vocab_size"] = model.pretraining.vocab_size
    if config.get("model_type") not in FAMILIES or any(key not in config for key in NEEDED) or _unusual(config):
        return _built(config, model.lora)
    heads, hidden, inner = config["num_attention_heads"], config["hidden_size"], config["intermediate_size"]
    size = config.get("head_dim") or hidden // heads
    queries, keys = heads * size, (config.get("num_key_value_heads") or heads) * size
    linear = {
        "q_proj": (hidden, queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys), "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden),
    }  # fmt: skip
    family, layers = FAMILIES[config["model_type"]], config["num_hidden_layers"]
    layer = sum(rows * columns for rows, columns in linear.values()) + 2 * hidden
    layer += queries + 2 * keys if family.biases else 0
    layer += {None: 0, "each": 2 * size, "all": queries + keys}[family.head_norms]
    embeddings = config["vocab_size"] * hidden * (1 if config["tie_word_embeddings"] else 2)
    parameters = layers * layer + hidden + embeddings
    trained = parameters
    if model.lora:
        targets = linear if model.lora.targets == "all-linear" else model.lora.targets
        trained = layers * sum(model.lora.rank * sum(linear[name]) for name in targets if name in linear)
    return Shape(
        parameters, trained, layers, hidden, inner, heads, queries, keys, config["vocab_size"],
        queries + keys if family.head_norms else 0, model.lora.rank if model.lora else 0,
    )  # fmt: skip


def _unusual(config: Mapping[str, Any]) -> bool:
    return bool(config.get("attention_bias") or config.get("mlp_bias"))


def _config(model: ModelFile) -> dict[str, Any]:
    settings = model.architecture or model.shape
    if settings:
        return dict(settings)
    if model.path:
        file = Path(model.path).expanduser() / "config.json"
        if not file.is_file():
            raise UserError(
                f"no model at {model.path!r}: no config.json there. Give a folder with config.json and weights"
            )
        return dict(validated(ModelFile, {"path": model.path, "shape": read_json(file)}, str(file)).shape or {})
    from upaya.policy.model import hub_config

    try:
        configuration: dict[str, Any] = hub_config(str(model.hub), model.revision or "main").to_dict()
    except UserError as error:
        raise UserError(f"{error} Or give its sizes under `shape` in the model's file.") from None
    return configuration


def _built(settings: Mapping[str, Any], lora: Lora | None) -> Shape:
    """The same of the model itself, on the meta device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from upaya.policy.layers import linear_layers

    kept = dict(settings)
    try:
        config = AutoConfig.for_model(kept.pop("model_type"), **kept)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"the model file's 'architecture' or 'shape' describes no model: {error}") from None
    parameters = trained = sum(p.numel() for p in model.parameters())
    if lora:
        targets = linear_layers(model) if lora.targets == "all-linear" else lora.targets
        trained = sum(
            lora.rank * (module.in_features + module.out_features)
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] in targets
        )
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = (getattr(config, "num_key_value_heads", None) or heads) * size
    has_norms = any(name.endswith(".q_norm") for name, _ in model.named_modules())
    return Shape(
        parameters=parameters,
        trained=trained,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=heads,
        queries=heads * size,
        keys=keys,
        vocabulary=config.vocab_size,
        normed=heads * size + keys if has_norms else 0,
        rank=lora.rank if lora else 0,
    )

"""`upaya adopt --model FOLDER`: a model that exists made the model of this checkout."""

from pathlib import Path
from typing import Any

from upaya.corpus.answers import ANSWER, END_ANSWER, END_THINK, TAGS, THINK
from upaya.declared.curricula import load_curricula
from upaya.declared.launch import load_launch
from upaya.declared.model import ModelFile
from upaya.declared.validation import FileName, validated
from upaya.errors import UserError
from upaya.files import read_json
from upaya.measuring.plan import GB, PROMPT_TOKENS, device_memory, gpu_memory, needs
from upaya.measuring.shape import Shape, shape_of
from upaya.operating.changing import changed, new, show, write
from upaya.paths import CURRICULA, MODELS
from upaya.policy.model import Policy
from upaya.policy.soundness import need_conversation, need_ends, need_model, need_weights_of_numbers, read_folder
from upaya.rewards.regimes import load_regimes
from upaya.terminal import console

ASKED = (
    f"First think briefly between {THINK} and {END_THINK}, then write only the answer between {ANSWER} and "
    f"{END_ANSWER}, and nothing outside of them."
)
LARGE = 300e6  # parameters from which on only each layer's input is kept for the backward pass
# Of the lenient stage for a model that has read a great deal (docs/scaling.md), the others in proportion. Adam's steps
# are to shrink with the width (Yang et al. 2022, Tensor Programs V, table 3): the rate is that of a 3 B model.
RATE, WIDTH = 1e-5, 2048
FROM_SCRATCH = 1e-4  # rates above it are those of the model from scratch
COMPLETION = 256  # tokens: it thinks before it answers


def adopt_model(what: str, name: str, dry_run: bool) -> None:
    """Look at a model's folder, change params/ accordingly, print what changes and whether it fits here.

    Raises:
        UserError: it is no causal model with a tokenizer, in the transformers layout. Nothing is changed then.
    """
    validated(FileName, name, "--name")
    folder = Path(what)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder}: no config.json there. A model of the hub is declared by `hub: owner/name` and its `revision` "
            f"in {MODELS}/NAME.yaml"
        )
    config, tokenizer = _loaded(folder)
    model = _declared(folder, config, tokenizer)
    shape = shape_of(model)
    for line in _seen(folder, config, tokenizer, shape):
        console.print(f"{name}: {line}", markup=False)
    file = MODELS / f"{name}.yaml"
    rate = RATE * WIDTH / getattr(config.get_text_config(), "hidden_size", WIDTH)
    texts = {
        file: new(model.model_dump(exclude_defaults=True)),
        CURRICULA: changed(CURRICULA, _curricula(name, what, rate)),
    }
    show(texts)
    curricula = load_curricula(load_regimes())
    curricula = curricula.model_copy(
        update={"sampling": curricula.sampling.model_copy(update={"max_new_tokens": COMPLETION})}
    )
    launch = load_launch(curricula.launch)
    peak, have = needs(shape, model, curricula, launch, PROMPT_TOKENS).peak, device_memory(launch)
    fits = (
        "it fits" if peak <= have else "IT DOES NOT FIT: `upaya plan` shows every launch; `lora: {rank: 32, alpha: 64}`"
    )
    console.print(f"{name}: some {peak / GB:.1f} GB of {have / GB:.0f} GB here, one process: {fits}", markup=False)
    if dry_run:
        console.print("nothing was changed (--dry-run)")
    else:
        write(texts)


def _loaded(folder: Path) -> tuple[Any, Any]:
    config, tokenizer = read_folder(folder)
    need_weights_of_numbers(folder, need_model(f"{folder}: its config.json", config))
    need_conversation(str(folder), tokenizer, ASKED)
    return config, tokenizer


def _declared(folder: Path, config: Any, tokenizer: Any) -> ModelFile:
    half = str(getattr(config, "dtype", None)) in ("torch.bfloat16", "torch.float16")
    declared = {"path": str(folder), "dtype": "bfloat16" if half and gpu_memory() else "float32"}
    if tokenizer.chat_template:
        declared["system_prompt"] = ASKED
    model = validated(ModelFile, declared, str(folder))
    if shape_of(model).parameters > LARGE:
        model = model.model_copy(update={"gradient_checkpointing": True})
    return model


def _seen(folder: Path, config: Any, tokenizer: Any, shape: Shape) -> list[str]:
    declared = folder / "generation_config.json"
    ends = read_json(declared).get("eos_token_id") if declared.is_file() else None
    need_ends(str(folder), tokenizer, config, ends)
    ends = ends if isinstance(ends, list) else [tokenizer.eos_token_id if ends is None else ends]
    tags = [f"{tag} {len(tokenizer(tag, add_special_tokens=False)['input_ids'])}" for tag in TAGS]
    said = [
        f"{config.model_type}, {shape.parameters / 1e6:,.3g} M parameters, {shape.layers} layers, "
        f"{getattr(config, 'max_position_embeddings', None)} positions, weights of "
        f"{str(getattr(config, 'dtype', None)).removeprefix('torch.')}",
        f"a completion ends with {', '.join(tokenizer.decode([end]) for end in ends)}",
        f"the tags are {', '.join(tags)} tokens",
    ]
    if not tokenizer.chat_template:
        return [*said, "it has no chat template: prompts go to it as they are, with a line's end"]
    opening = Policy(None, tokenizer).opening  # type: ignore[arg-type]
    opens = f", which opens a completion with {opening!r}" if opening else ""
    return [*said, f"it has a chat template{opens}"]


def _curricula(name: str, path: str, rate: float) -> Any:
    def change(params: Any) -> None:
        params["model"], params["model_files"] = name, path
        params["sampling"]["max_new_tokens"] = max(COMPLETION, params["sampling"]["max_new_tokens"])
        rates = [params["warmup"]["optimiser"], *params["policies"].values()]
        highest = max(settings["learning_rate"] for settings in params["policies"].values())
        for settings in rates if highest > FROM_SCRATCH else ():
            share = min(1.0, settings["learning_rate"] / highest)
            settings["learning_rate"] = float(f"{rate * share:.2g}")

    return change

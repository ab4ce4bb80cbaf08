"""`upaya adopt --model FOLDER_OR_NAME`: a model that exists made the model of this checkout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from upaya.corpus.answers import ANSWER, END_ANSWER, END_THINK, TAGS, THINK, Form
from upaya.declared.curricula import Curricula, load_curricula
from upaya.declared.launch import load_launch
from upaya.declared.model import ModelFile, load_model_file
from upaya.declared.questions import QuestionParams, TextSource
from upaya.declared.validation import FileName, load_yaml, validated
from upaya.errors import UserError
from upaya.files import read_json
from upaya.measuring.memory import GB, Lengths
from upaya.measuring.plan import device_memory, estimate, gpu_memory
from upaya.measuring.shape import Shape, shape_of
from upaya.operating.changing import changed, new, show, write
from upaya.paths import CURRICULA, MODELS, NO_FILES, QUESTION_PARAMS
from upaya.policy.model import HUB_NAME, Policy, from_hub
from upaya.policy.soundness import need_conversation, need_ends, need_model, need_weights_of_numbers, read_folder
from upaya.rewards.regimes import load_regimes
from upaya.terminal import console

ASKED: dict[Form, str] = {
    "tags": f"First think briefly between {THINK} and {END_THINK}, then write only the answer between {ANSWER} and "
    f"{END_ANSWER}, and nothing outside of them.",
    "boxed": "First think briefly, then write only the answer in \\boxed{}.",
    "last line": "First think briefly, then write only the answer on the last line, after `Answer: `.",
}
WEIGHTS = ("*.safetensors", "*.bin")
LARGE = 300e6  # parameters from which on only each layer's input is kept for the backward pass
# Of the lenient stage for a model that has read a great deal (docs/scaling.md), the others in proportion. Adam's steps
# are to shrink with the width (Yang et al. 2022, Tensor Programs V, table 3): the rate is that of a 3 B model.
RATE, WIDTH = 1e-5, 2048
COMPLETION = 256  # tokens: it thinks before it answers


def adopt_model(what: str, name: str, dry_run: bool) -> None:
    """Look at a model, change params/ accordingly, print what changes and whether it fits here.

    Args:
        what: its folder, or its name on the hub, whose newest commit is declared.

    Raises:
        UserError: it is no causal model with a tokenizer, in the transformers layout. Nothing is changed then.
    """
    validated(FileName, name, "--name")
    folder, origin, config, tokenizer = _found(what)
    model = _declared(origin, config, tokenizer, _form())
    shape = shape_of(model)
    for line in _seen(folder, config, tokenizer, shape):
        console.print(f"{name}: {line}", markup=False)
    file = MODELS / f"{name}.yaml"
    curricula = load_curricula(load_regimes())
    texts = {
        file: new(model.model_dump(exclude_defaults=True)),
        CURRICULA: changed(CURRICULA, _curricula(name, model, RATE * WIDTH / shape.hidden, _rate_of(curricula))),
    }
    show(texts)
    curricula = curricula.model_copy(
        update={"sampling": curricula.sampling.model_copy(update={"max_new_tokens": COMPLETION})}
    )
    launch = load_launch(curricula.launch)
    peak, have = estimate(curricula, model, launch, Lengths()).peak, device_memory(launch)
    fits = (
        "it fits" if peak <= have else "IT DOES NOT FIT: `upaya plan` shows every launch; `lora: {rank: 32, alpha: 64}`"
    )
    console.print(f"{name}: some {peak / GB:.1f} GB of {have / GB:.0f} GB here, one process: {fits}", markup=False)
    if dry_run:
        console.print("nothing was changed (--dry-run)")
    else:
        write(texts)


def _found(what: str) -> tuple[Path, dict[str, str], Any, Any]:
    """Its folder, how params/models/ says where it is, its configuration and its tokenizer, all of them sound."""
    folder = Path(what)
    if (folder / "config.json").is_file():
        if not any(file.is_file() for kind in WEIGHTS for file in folder.glob(kind)):
            raise UserError(
                f"{folder}: no weights there (model.safetensors, or the parts that an index beside it names)"
            )
        origin = {"path": what}
        config, tokenizer = read_folder(folder)
    elif HUB_NAME.fullmatch(what) and not folder.exists():
        config, tokenizer = from_hub(what, "main")
        folder = Path(str(try_to_load_from_cache(what, "config.json"))).parent  # a snapshot, named by its commit
        origin = {"hub": what, "revision": folder.name}
    else:
        raise UserError(f"{what}: no config.json there, and no model's name on the hub either (owner/name)")
    need_weights_of_numbers(folder, need_model(f"{folder}: its config.json", config))
    need_conversation(what, tokenizer, ASKED["tags"])
    return folder, origin, config, tokenizer


def _form() -> Form:
    """Where the declared questions want the answer; in tags where they want several places."""
    sources = load_yaml(QUESTION_PARAMS, QuestionParams).sources.values()
    forms: set[Form] = {source.form for source in sources if not isinstance(source, TextSource)}
    return forms.pop() if len(forms) == 1 else "tags"


def _rate_of(curricula: Curricula) -> float | None:
    """The lenient stage's rate for the model that is declared until now; of one from scratch the highest that is
    declared, and None where a model's folder is gone."""
    model = load_model_file(curricula.model)
    if model.architecture:
        return max(policy.learning_rate for policy in curricula.policies.values())
    try:
        return RATE * WIDTH / shape_of(model).hidden
    except UserError:
        return None


def _declared(origin: Mapping[str, str], config: Any, tokenizer: Any, form: Form) -> ModelFile:
    half = str(getattr(config, "dtype", None)) in ("torch.bfloat16", "torch.float16")
    declared = {**origin, "dtype": "bfloat16" if half and gpu_memory() else "float32"}
    if tokenizer.chat_template:
        declared["system_prompt"] = ASKED[form]
    model = validated(ModelFile, declared, "--model")
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


def _curricula(name: str, model: ModelFile, rate: float, before: float | None) -> Any:
    def change(params: Any) -> None:
        params["model"], params["model_files"] = name, model.path or str(NO_FILES)
        params["sampling"]["max_new_tokens"] = max(COMPLETION, params["sampling"]["max_new_tokens"])
        policies = params["policies"].values()
        for settings in [params["warmup"]["optimiser"], *policies] if before else ():
            settings["learning_rate"] = float(f"{settings['learning_rate'] * rate / before:.2g}")
        # A model from scratch is warmed up faster than it is rewarded, one that has read is not.
        highest = max(settings["learning_rate"] for settings in policies)
        warmup = params["warmup"]["optimiser"]
        warmup["learning_rate"] = min(warmup["learning_rate"], highest)

    return change

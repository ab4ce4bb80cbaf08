"""Whether a model's folder holds a model and its tokenizer, before any weights are read: what came with it is foreign,
and transformers reads it on trust."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from upaya.errors import UserError
from upaya.files import read_json
from upaya.time_limit import Overtime, within

# What transformers lets through of whatever these files hold wrong: it looks at none of their values itself.
UNREADABLE = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, AssertionError, ArithmeticError,
    RuntimeError, StrictDataclassError, SafetensorError,
)  # fmt: skip
SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json")
SECONDS = 10.0  # that a chat template may take for one question
LONGEST = 100_000  # characters that it may add
ASKED, SYSTEM = "眼界屬何類", "只答其值"
FLOATING = {"F64", "F32", "F16", "BF16"}  # as safetensors calls them


@contextmanager
def making(where: str) -> Iterator[None]:
    """What transformers raises inside becomes a UserError. Args: where: what is wrong then, for the message."""
    try:
        yield
    except UNREADABLE as error:
        raise UserError(f"{where}: {first_line(error)}") from None
    except Exception as error:
        if type(error) is not Exception:  # as which the tokenizers library raises everything
            raise
        raise UserError(f"{where}: {first_line(error)}") from None


def read_folder(folder: Path, model: Path | None = None) -> tuple[Any, Any]:
    """The configuration and the tokenizer of a folder in the transformers layout; nothing but the folder is asked.

    Args:
        model: where in it the configuration and the weights are, if not beside the tokenizer.

    Raises UserError for a folder that is none, or holds none of them.
    """
    model = model or folder
    for place in {folder, model}:
        _need_files(place)
    for file in (place / name for place in {folder, model} for name in SETTINGS):
        if file.exists() and not isinstance(read_json(file), dict):
            raise UserError(f"{file}: expected a JSON object of settings")
    with making(f"cannot load a model from {folder}"):
        config = AutoConfig.from_pretrained(model, local_files_only=True)
        return config, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _need_files(folder: Path) -> None:
    """Raises UserError for what only looks like a file: transformers takes a link to nothing for a file left out, and
    waits for a pipe to end."""
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (file.is_file() or file.is_dir()):
            raise UserError(
                f"{file} is no file, but a link that leads nowhere, or a pipe; put the model's in its place"
            )


def need_model(where: str, config: Any) -> Any:
    """The model of a configuration, without memory. Raises UserError where it makes none, where that can't take two
    tokens, and where its weights are more than this machine's memory."""
    with making(f"{where} does not make a model"), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        model(input_ids=torch.zeros(1, 2, dtype=torch.long), attention_mask=torch.zeros(1, 1, 2, 2), use_cache=False)
    size, have = sum(p.numel() for p in model.parameters()), psutil.virtual_memory().total
    if 2 * size > have:  # in bfloat16
        raise UserError(
            f"{where} makes a model of {size:,} parameters: {2 * size / 1e9:,.0f} GB at the least, and this machine "
            f"has {have / 1e9:,.0f}"
        )
    return model


def need_ends(where: str, tokenizer: Any, config: Any, generation: Any) -> None:
    """Raises UserError where nothing ends a completion, or what is to end it is none of the model's tokens.

    Args:
        generation: what generation_config.json says of it, or config.json where there is none; None for nothing.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(f"{where}: its tokenizer has no token that ends a text (eos_token in tokenizer_config.json)")
    for end in generation if isinstance(generation, list) else [] if generation is None else [generation]:
        if type(end) is not int or not 0 <= end < config.get_text_config().vocab_size:
            raise UserError(
                f"{where}: eos_token_id in generation_config.json or config.json names {end!r}, no token of the model"
            )


def need_conversation(where: str, tokenizer: Any, system_prompt: str | None) -> None:
    """Ask one question through the chat template, which is a program of whoever made the model. Raises UserError where
    it fails, does not end, or leaves out what is said."""
    if not tokenizer.chat_template:
        return
    said = [{"role": "system", "content": SYSTEM}] if system_prompt else []
    said.append({"role": "user", "content": ASKED})
    cure = "Mend chat_template.jinja in its folder, or say `chat: false` in the model's file under params/models/."
    try:
        with within(SECONDS):
            text, again = (
                tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True) for _ in range(2)
            )
    except Overtime:
        raise UserError(f"{where}: its chat template takes more than {SECONDS:g} s for one question. {cure}") from None
    except Exception as error:  # whatever a template raises
        alone = " Or leave out `system_prompt`, if that is what it refuses." if system_prompt else ""
        raise UserError(f"{where}: its chat template fails ({first_line(error)}). {cure}{alone}") from None
    for message in said:
        if message["content"] not in text:
            raise UserError(f"{where}: its chat template leaves out what the {message['role']} says. {cure}")
    if text != again:
        raise UserError(f"{where}: its chat template says something else each time. {cure}")
    if len(text) > LONGEST:
        raise UserError(f"{where}: its chat template adds {len(text):,} characters to one question. {cure}")
    with making(f"{where}: its tokenizer cannot encode a question"):
        tokenizer(text, add_special_tokens=False)


def need_weights_of_numbers(folder: Path, model: Any) -> None:
    """Raises UserError where safetensors files hold a parameter in whole numbers: a quantised model is not trained."""
    names = {name for name, _ in model.named_parameters()}
    for file in sorted(file for file in folder.glob("*.safetensors") if file.is_file()):
        for name, kept in _header(file).items():
            if name in names and isinstance(kept, dict) and kept.get("dtype") not in FLOATING:
                raise UserError(
                    f"{file}: {name} is of type {kept.get('dtype')}; weights are floating-point numbers "
                    f"({', '.join(sorted(FLOATING))})"
                )


def _header(file: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors; nothing where it is none, which reading the weights says."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(min(size, 100_000_000)))
        except ValueError:
            return {}
    return header if isinstance(header, dict) else {}


def need_finite(where: str, model: Any) -> None:
    """Raises UserError where a weight is not a finite number."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise UserError(f"{where}: {name} holds what is no finite number (nan or inf): its weights are damaged")


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) if isinstance(error, StrictDataclassError) else (lines or [type(error).__name__])[0]

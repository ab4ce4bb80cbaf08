"""A policy: a causal language model with its tokenizer, in the transformers layout."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import huggingface_hub
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from upaya.corpus.answers import END_THINK, THINK
from upaya.declared.model import Handling
from upaya.errors import UserError
from upaya.files import read_json
from upaya.policy.adapters import BASE, CONFIG, has_adapters, read_adapters, save_adapters
from upaya.policy.attention import attention, need_bfloat16
from upaya.policy.device import device
from upaya.policy.layers import need_targets
from upaya.policy.soundness import (
    first_line,
    making,
    need_conversation,
    need_ends,
    need_finite,
    need_model,
    need_weights_of_numbers,
    read_folder,
)

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/name
SECONDS_TO_REACH = 10.0  # the hub


class Room(NamedTuple):
    """What a model's positions have to hold: the longest of these prompts, and a completion of so many tokens."""

    prompts: Sequence[str]
    completion: int


@dataclass
class Policy:
    """A model and its tokenizer. Prompts go through the tokenizer's chat template where it has one.

    Attributes:
        passes: what passes with a gradient go through where that is not the model itself (DeepSpeed's engine).
    """

    model: PreTrainedModel
    tokenizer: Any
    system_prompt: str | None = None
    passes: Callable[..., Any] | None = None

    def forward(self, **inputs: Any) -> Any:
        """The model's output, with a gradient."""
        return (self.passes or self.model)(**inputs)

    @property
    def eos_ids(self) -> list[int]:
        """Every token that ends a completion: the generation config's list, else the tokenizer's own."""
        declared = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ids = declared if isinstance(declared, list) else [declared]
        return sorted({int(i) for i in [*ids, self.tokenizer.eos_token_id] if i is not None})

    @property
    def pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.eos_ids[0])

    def encode_prompt(self, prompt: str) -> list[int]:
        if self.tokenizer.chat_template:
            messages = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
            messages.append({"role": "user", "content": prompt})
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            text = f"{self.system_prompt}\n{prompt}\n" if self.system_prompt else f"{prompt}\n"
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_completion(self, completion: str) -> list[int]:
        """A completion's tokens with the end token: what SFT teaches. What the template opens is not said again."""
        said = self.after_opening(completion)
        return [*self.tokenizer(said, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]

    def after_opening(self, completion: str) -> str:
        """What is left to say of a completion once the chat template has opened it."""
        if not self.opening:
            return completion
        if THINK not in completion:  # a form without them: thinking that is open is closed
            return completion if END_THINK in self.opening else f"{END_THINK}{completion}"
        return completion.partition(END_THINK)[2] if END_THINK in self.opening else completion.removeprefix(THINK)

    def decode(self, tokens: Sequence[int], begin: str = "") -> str:
        """The text of a completion up to its end token, with what it had been begun with. A special token within it is
        text that does not belong there: were it left out, what it spoils would count as right."""
        ends = set(self.eos_ids)
        end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
        said = self.tokenizer.decode(tokens[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return f"{self.opening}{begin}{said}"

    def token_starts(self, tokens: Sequence[int], begin: str = "") -> list[int]:
        """Where in the text of `decode` each token's first character stands; of a token that ends the completion or
        adds nothing, the text's end at that point. A character in several tokens belongs to all of them."""
        ends, said, starts = set(self.eos_ids), "", []
        begun, done = 0, 0  # tokens decoded together from `begun` on, of which those before `done` are in `said`

        def text(first: int, last: int) -> str:
            return self._decoded(tuple(tokens[first:last]))

        for place, token in enumerate(tokens):
            starts.append(len(self.opening) + len(begin) + len(said))
            if token in ends:
                starts += [starts[-1]] * (len(tokens) - place - 1)
                break
            before, now = text(begun, done), text(begun, place + 1)
            if len(now) > len(before) and not now.endswith("\N{REPLACEMENT CHARACTER}"):
                said += now[len(before) :]
                begun, done = done, place + 1
        return starts

    @cached_property
    def _decoded(self) -> Callable[[tuple[int, ...]], str]:
        """The text of a few tokens, remembered: the same pairs come again in nearly every completion."""

        @lru_cache(maxsize=65536)
        def decoded(tokens: tuple[int, ...]) -> str:
            return str(
                self.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
            )

        return decoded

    @cached_property
    def opening(self) -> str:
        """What the chat template says of the completion before the model does: "<think>" for some reasoning models."""
        if not self.tokenizer.chat_template:
            return ""
        mark = "…"
        asked = [{"role": "user", "content": mark}]
        text = self.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        _, think, rest = text[text.rindex(mark) :].partition(THINK)
        return (think + rest).strip()

    def save(self, folder: Path, lies_in: Path | None = None) -> None:
        """Write model.safetensors, config and tokenizer into an existing folder; where the model has adapters, these
        beside the tokenizer, and the model without them, which it is afterwards, into a folder in it.

        Args:
            lies_in: where the folder will be, if not where it is written.
        """
        if has_adapters(self.model):
            save_adapters(self.model, folder, lies_in or folder)
        else:
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Keep of each layer its input only, and compute it again in the backward pass, under the same attention function:
    by then the model has gone back to another one."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), attention(model, model.config._attn_implementation)

    model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})


def compile_layers(model: PreTrainedModel, backend: str = "inductor") -> None:
    """torch.compile each layer, for passes over whole sequences; rollouts leave it out (upaya/sampling/decoding.py)."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # of the compiler too
    for layer in model.get_decoder().layers:
        layer.compile(dynamic=True, backend=backend)


def load(
    source: str | Path, handling: Handling | None = None, room: Room | None = None, revision: str = "main"
) -> Policy:
    """A policy from a folder in the transformers layout or from a hub name, where this process computes.

    Args:
        source: a folder as a Path, of which no hub is ever asked; a hub's name, or a folder, as a str.
        handling: what params/models/ says of it; None for what fits any model, with a chat template where there is one.
        room: what its positions have to hold.
        revision: commit, tag or branch of a hub's repository.

    Raises:
        UserError: there is no such model, or it cannot do what is asked of it. Whatever the configuration and the
            tokenizer can tell is told before any weights are read.
    """
    is_hubs = isinstance(source, str) and bool(HUB_NAME.fullmatch(source)) and not Path(source).is_dir()
    source, asked = str(source), handling or Handling()
    folder = Path(source).expanduser()
    if not is_hubs and not is_folder(folder):
        raise UserError(f"no model at {source!r}: no such folder. Give a folder with config.json and weights.")
    adapters = folder if not is_hubs and (folder / CONFIG).is_file() else None
    weights = folder / BASE if adapters else folder
    config, tokenizer = from_hub(source, revision) if is_hubs else read_folder(folder, weights)
    policy = Policy(None, tokenizer, asked.system_prompt)  # type: ignore[arg-type]  # its weights come last
    if handling and asked.chat and not tokenizer.chat_template:
        raise UserError(
            f"{source}: its tokenizer has no chat template. Add one (chat_template.jinja in its folder), or say "
            "`chat: false` in the model's file under params/models/ to give it prompts as plain text."
        )
    if not asked.chat:
        tokenizer.chat_template = None
    _need_vocabulary(source, tokenizer, config)
    generation = weights / "generation_config.json"
    ends = read_json(generation) if generation.exists() else config.to_dict()
    need_ends(source, tokenizer, config, ends.get("eos_token_id"))
    empty = need_model(f"{source}: its config.json", config)
    need_conversation(source, tokenizer, asked.system_prompt)
    if not is_hubs:
        need_weights_of_numbers(weights, empty)
    if room:
        _need_room(source, policy, config, room)
    if asked.lora:
        need_targets(source, empty, asked.lora)
    if asked.dtype == "bfloat16":
        need_bfloat16(device())
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source if is_hubs else weights,
            revision=revision,
            local_files_only=not is_hubs,
            dtype=getattr(torch, asked.dtype),
            attn_implementation=asked.attention,
            output_loading_info=True,
        )
        model, loading = loaded
    except (OSError, ValueError, SafetensorError, LookupError, TypeError, AttributeError, ImportError) as error:
        raise UserError(_not_loaded(source, error)) from None
    except RuntimeError as error:  # transformers' word for weights of other shapes
        raise UserError(
            f"{source}: its weights are not those of the architecture in its config.json ({first_line(error)}). Put "
            "config.json and weights of one model into the folder."
        ) from None
    strange = sorted([*loading["missing_keys"], *(str(key) for key in loading["mismatched_keys"])])
    if strange:  # transformers would draw them at random
        raise UserError(
            f"{source}: its weights are not those of the architecture in its config.json: {len(strange)} are missing, "
            f"{strange[0]} the first of them. Put config.json and weights of one model into the folder."
        )
    policy.model = model.to(device())
    if adapters:
        read_adapters(policy.model, adapters)
    need_finite(source, policy.model)
    silence_padding(policy)
    if asked.gradient_checkpointing:
        checkpoint_layers(policy.model)
    return policy


def silence_padding(policy: Policy) -> None:
    """Where the vocabulary is padded beyond the tokenizer, what is no token gets no probability, in sampling and in
    training alike (finite, for −∞ · 0 is not a number). Nor has it a gradient, which is in proportion to its
    probability: the backward pass need not set it to 0, in a copy of the logits' whole gradient."""
    tokens = _tokens(policy.tokenizer)
    if policy.model.config.get_text_config().vocab_size > tokens:

        @torch.no_grad()
        def fill(module: Any, inputs: Any, logits: torch.Tensor) -> None:
            logits[..., tokens:] = -1e4

        policy.model.get_output_embeddings().register_forward_hook(fill)


def _tokens(tokenizer: Any) -> int:
    """One more than the highest id that a tokenizer knows."""
    return max(tokenizer.get_vocab().values()) + 1


def _need_vocabulary(source: str, tokenizer: Any, config: Any) -> None:
    """Raise UserError where text becomes tokens that the model does not have. A special token may lie beyond them where
    nothing uses it: transformers' tokenizer for qwen2 adds one to any tokenizer that comes without it."""
    size, added = config.get_text_config().vocab_size, tokenizer.added_tokens_decoder
    used = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    beyond = [i for i in tokenizer.get_vocab().values() if i >= size]
    if any(i in used or i not in added or not added[i].special for i in beyond):
        raise UserError(
            f"{source}: its tokenizer knows {_tokens(tokenizer)} tokens, its model {size} (vocab_size in config.json): "
            "they do not belong together. Put the tokenizer's files of this very model into the folder."
        )


def _need_room(source: str, policy: Policy, config: Any, room: Room) -> None:
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    likely = sorted(room.prompts, key=len)[-50:]  # the longest in characters
    longest = max((len(policy.encode_prompt(prompt)) for prompt in likely), default=0)
    if positions is not None and longest + room.completion > positions:
        raise UserError(
            f"{source} has {positions} positions (max_position_embeddings), but the longest prompt takes {longest} "
            f"tokens and a completion up to {room.completion}. Lower sampling.max_new_tokens in params/curricula.yaml "
            "or choose easier questions or a model with more positions."
        )


def is_folder(path: Path) -> bool:
    """Whether a path is one of a folder, and one at all."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # too long, or with a NUL in it
        return False


def from_hub(source: str, revision: str) -> tuple[Any, Any]:
    """The configuration and the tokenizer of a hub's repository. Raises UserError."""
    config = hub_config(source, revision)
    with making(f"cannot load {source!r} from the hub"):
        return config, AutoTokenizer.from_pretrained(source, revision=revision)


def hub_config(source: str, revision: str) -> Any:
    """The configuration of a hub's repository. A hub that cannot be reached is asked once. Raises UserError."""
    try:
        if not isinstance(huggingface_hub.try_to_load_from_cache(source, "config.json", revision=revision), str):
            url = huggingface_hub.hf_hub_url(source, "config.json", revision=revision)
            huggingface_hub.get_hf_file_metadata(url, timeout=SECONDS_TO_REACH)
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise UserError(_not_loaded(source, error)) from None
    with making(f"cannot load {source!r} from the hub"):
        return AutoConfig.from_pretrained(source, revision=revision)


def _not_loaded(source: str, error: Exception) -> str:
    if Path(source).expanduser().is_dir():
        return f"cannot load a model from {source}: {first_line(error)}"
    name = source.split("/")[-1]
    return (
        f"cannot load {source!r} from the hub: {first_line(error)} Without network access: run "
        f"`hf download {source} --local-dir {name}` where there is some, bring that folder here as models/{name}, and "
        f"write `path: models/{name}` in place of `hub` in the model's file under params/models/."
    )

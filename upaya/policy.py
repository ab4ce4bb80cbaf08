"""A policy: a causal language model with its tokenizer, in the transformers layout."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from upaya.answers import TAGS
from upaya.errors import UserError

# Same bytes for the same inputs: without this, gradients of repeated places are added up by several threads in whatever
# order they come (index_put on the CPU). What a GPU cannot do in a fixed order warns.
torch.use_deterministic_algorithms(True, warn_only=True)
torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

PAD, EOS, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
# Marks that end a token. ／ is none of them: a gate named by its alternatives (有见／无见) is one word of this corpus.
MARKS = "[、，。；：？「」《》\\n]"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass
class Policy:
    """A model and its tokenizer. Prompts go through the tokenizer's chat template where it has one."""

    model: PreTrainedModel
    tokenizer: Any
    system_prompt: str | None = None

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
        """A completion's tokens with the end token: what SFT teaches."""
        return [*self.tokenizer(completion, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a completion up to its end token. A special token within it is text that does not belong there:
        were it left out, what it spoils would count as right."""
        ends = set(self.eos_ids)
        end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
        return str(self.tokenizer.decode(tokens[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def save(self, folder: Path) -> None:
        """Write model.safetensors, config and tokenizer into an existing folder."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


@contextmanager
def attention(model: PreTrainedModel, name: str) -> Iterator[None]:
    """The model with another attention function for a while."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def compile_layers(model: PreTrainedModel, backend: str = "inductor") -> None:
    """torch.compile each layer, for passes over whole sequences; rollouts leave it out (upaya/sampling.py)."""
    for layer in model.get_decoder().layers:
        layer.compile(dynamic=True, backend=backend)


def load(source: str | Path, dtype: torch.dtype = torch.float32) -> Policy:
    """A policy from a folder in the transformers layout or from a hub name.

    Raises UserError where there is no such model.
    """
    source = str(source)
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") != 1
    if looks_like_path and not Path(source).expanduser().is_dir():
        raise UserError(f"no model at {source!r}: no such folder. Give a folder with config.json and weights.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation="sdpa")
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot load a model from {source!r}: {str(error).splitlines()[0]} "
            "Without network access, download the model elsewhere and give its folder as the path."
        ) from None
    if torch.cuda.is_available():
        model.cuda()
    return Policy(model, tokenizer)


# --- from scratch ---------------------------------------------------------------------------------------------------


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer. Marks always stand alone, so that what lies between two of them (a term, a value, an
    axis) can become one token when it is frequent."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread: ties between merges fall the same way every time
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(MARKS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, EOS, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(list(TAGS))  # ordinary tokens: they are text that the model says, and stay when decoding
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, padding_side="left")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def from_config(architecture: dict[str, Any], tokenizer: Any, seed: int) -> Policy:
    """A model with random weights from a transformers configuration (`model_type` and its keys)."""
    settings = dict(architecture)
    try:
        config = AutoConfig.for_model(
            settings.pop("model_type"),
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            **settings,
        )
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    except (ValueError, KeyError, TypeError, ImportError) as error:
        raise UserError(f"the model file's 'architecture' does not make a model: {error}") from None
    return Policy(model, tokenizer)

"""A model from scratch: a tokenizer trained on the corpus, and random weights."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from upaya.corpus.answers import TAGS
from upaya.declared.model import Handling
from upaya.policy.attention import need_bfloat16
from upaya.policy.device import device
from upaya.policy.model import Policy, checkpoint_layers
from upaya.policy.soundness import making, need_model

PAD, EOS, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"

# Marks that end a token. ／ is none of them: a gate named by its alternatives (有见／无见) is one word of this corpus.
MARKS = "[、，。；：？「」《》\\n]"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


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


def from_config(architecture: dict[str, Any], tokenizer: Any, seed: int, handling: Handling | None = None) -> Policy:
    """A model with random weights from a transformers configuration (`model_type` and its keys).

    Args:
        handling: what params/models/ says of it. Weights that are not in float32 are the same ones, rounded.

    Raises:
        UserError: the configuration does not make a model, or what is declared cannot be computed here.
    """
    settings, declared = dict(architecture), handling or Handling()
    if declared.dtype == "bfloat16":
        need_bfloat16(device())
    with making("the model file's 'architecture' does not make a model"):
        config = AutoConfig.for_model(
            settings.pop("model_type"),
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            **settings,
        )
        need_model("the model file's 'architecture'", config)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=declared.attention, dtype=torch.float32)
    for weights in model.parameters():  # the rotary frequencies are not rounded, as where a model is loaded
        weights.data = weights.data.to(getattr(torch, declared.dtype))
    model.to(device())
    if declared.gradient_checkpointing:
        checkpoint_layers(model)
    return Policy(model, tokenizer)

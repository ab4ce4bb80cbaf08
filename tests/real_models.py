"""Models as they come from a hub, made here: random weights, a BPE tokenizer trained on the corpus, a chat template, a
generation config with several end tokens, a vocabulary padded beyond the tokenizer."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = TEMPLATE.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
CLOSED = THINKING.replace("<think>\n{% endif %}", "<think>\n\n</think>\n\n{% endif %}")
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.2, "tie_word_embeddings": True,
}  # fmt: skip
PADDED = 37  # ids that the model has and the tokenizer does not


def make(folder: Path, model_type: str = "qwen2", template: str | None = TEMPLATE, dtype: str = "float32") -> Path:
    """A folder as save_pretrained leaves it."""
    texts = [path.read_text() for path in sorted((Path(__file__).parents[1] / "corpus").rglob("*.yaml"))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts[:4], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="right"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    ids = {"eos_token_id": fast.eos_token_id, "pad_token_id": fast.pad_token_id, "bos_token_id": None}
    config = AutoConfig.for_model(model_type, vocab_size=len(fast) + PADDED, **ids, **SIZES)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    ends = [fast.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=fast.pad_token_id)
    model.save_pretrained(folder)
    return folder

"""The policy: a causal language model with its tokenizer, as it is loaded, spoken to and attended with."""

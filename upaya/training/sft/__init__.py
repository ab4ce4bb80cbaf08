"""Supervised training: a model from scratch, pre-training on plain text, warm-up on gold completions."""

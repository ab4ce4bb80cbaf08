"""What params/ say: every declared file as a model that is validated when it is loaded. Nothing here imports torch."""

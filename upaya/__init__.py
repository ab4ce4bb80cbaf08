"""Upāya: curricula of reward regimes for GRPO. The library that tasks/ is made of; it knows neither Prefect nor DVC."""

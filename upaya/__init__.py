"""Upāya: curricula of reward regimes for GRPO. The library that tasks/ is made of; it knows neither Prefect nor DVC."""

import sys

# Where accelerate is installed (peft needs it), transformers imports it, and it imports DeepSpeed: four seconds at the
# start of every process, few of which use it. To Python, None means that it is not there; processes.join() finds it.
sys.modules.setdefault("deepspeed", None)  # type: ignore[arg-type]

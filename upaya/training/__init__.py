"""Training: optimiser steps, passes over completions, SFT and GRPO."""

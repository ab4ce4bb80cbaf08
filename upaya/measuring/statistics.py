"""Estimates over questions, with their intervals."""

import math
from collections.abc import Sequence

import numpy as np


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k completions is right, from c right ones among n ≥ k.

    1 − C(n−c, k)/C(n, k): Chen et al. 2021 (Codex, arXiv:2107.03374), eq. 1.
    """
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def interval(values: Sequence[float], resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over questions."""
    data = np.asarray(values, dtype=float)
    rng = np.random.Generator(np.random.Philox(key=[seed, 95]))
    means = data[rng.integers(0, len(data), size=(resamples, len(data)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)

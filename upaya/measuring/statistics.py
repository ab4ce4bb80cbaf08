"""Estimates over questions, with their intervals."""

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959963984540054  # of the normal distribution, 95 % between −Z and Z


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k completions is right, from c right ones among n ≥ k.

    1 − C(n−c, k)/C(n, k): Chen et al. 2021 (Codex, arXiv:2107.03374), eq. 1.
    """
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def interval(values: Sequence[float], resamples: int, seed: int) -> tuple[float, float]:
    """95 % interval of the mean over questions.

    Of measures that are 0 or 1 for each question Wilson's score interval (Wilson 1927), which says something at the
    boundary too (0 of 384 may be up to 1 %); of others the percentile bootstrap.
    """
    if all(value in (0, 1) for value in values):
        return wilson(int(sum(values)), len(values))
    return bootstrapped(values, resamples, seed)


def bootstrapped(values: Sequence[float], resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean."""
    data = np.asarray(values, dtype=float)
    rng = np.random.Generator(np.random.Philox(key=[seed, 95]))
    means = data[rng.integers(0, len(data), size=(resamples, len(data)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % score interval of a share: (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.96."""
    share, square = successes / trials, Z * Z / trials
    middle, half = share + square / 2, Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return (0.0 if successes == 0 else low), (1.0 if successes == trials else high)

"""Random numbers by place: each depends on what it is for, not on what was drawn before it."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

# Philox4x64-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"), table 2.
ROUNDS = 10

MULTIPLIERS = (np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157))

KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)

LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


class Stream(IntEnum):
    """What random numbers are for: streams of one seed that have no number in common."""

    ROLLOUTS = 0  # of GRPO
    VALIDATION = 1  # of the warm-up
    EVALUATION = 2
    PROBE = 3
    ORDER = 4  # of the questions in training
    POOLS = 5  # whether a question is passed over
    GAP = 6  # GRPO's completions of validation questions


def uniforms(
    seed: int, step: int, prompts: Sequence[int], samples: int, length: int, stream: Stream = Stream.ROLLOUTS
) -> np.ndarray:
    """Uniform numbers in [0, 1) for each sample and position of each prompt: float64 [P, samples, length].

    Philox is a generator without state: a block of four numbers is a function of a key, here (seed, step), and of a
    counter, here (position // 4, stream, sample, prompt). What comes out equals numpy's Philox with that key and
    counter, of which there would have to be one for each completion.
    """
    blocks = -(-length // 4)
    counter = np.broadcast_arrays(
        np.arange(1, blocks + 1, dtype=np.uint64),  # numpy counts up before it draws
        np.uint64(stream),
        np.arange(samples, dtype=np.uint64)[:, None],
        np.array(prompts, dtype=np.uint64)[:, None, None],
    )
    words = np.stack(philox4x64((seed, step), counter), axis=-1)
    numbers = words.reshape(len(prompts), samples, 4 * blocks)[:, :, :length]
    return (numbers >> np.uint64(11)) * 2.0**-53


def philox4x64(key: tuple[int, int], counter: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The four words for each counter of four words: uint64 arrays of one shape."""
    a, b, c, d = counter
    for number in range(ROUNDS):
        first, second = (np.uint64((word + number * step) % 2**64) for word, step in zip(key, KEY_STEPS, strict=True))
        (high_a, low_a), (high_c, low_c) = _product(MULTIPLIERS[0], a), _product(MULTIPLIERS[1], c)
        a, b, c, d = high_c ^ b ^ first, low_c, high_a ^ d ^ second, low_a
    return [a, b, c, d]


def _product(factor: np.uint64, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The high and the low word of a product of two words, in halves, for numpy has no words of 128 bits."""
    factor_low, factor_high = factor & LOW, factor >> HALF
    low, high = values & LOW, values >> HALF
    middle = factor_high * low + (factor_low * low >> HALF)
    crossed = factor_low * high + (middle & LOW)
    return factor_high * high + (middle >> HALF) + (crossed >> HALF), factor * values

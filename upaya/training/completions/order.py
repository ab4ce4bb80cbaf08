"""The order in which training takes its questions."""

import numpy as np

from upaya.sampling.philox import Stream

_permutations: dict[tuple[int, int, int], np.ndarray] = {}


def prompt_order(count: int, step: int, prompts: int, seed: int) -> list[int]:
    """Which of `count` questions a step uses: consecutive stretches of an endless series of seeded permutations."""
    return [question_at(place, count, seed) for place in range(step * prompts, (step + 1) * prompts)]


def question_at(place: int, count: int, seed: int) -> int:
    """Which of `count` questions stands at a place of that series."""
    epoch, within = divmod(place, count)
    return int(_permutation(count, epoch, seed)[within])


def _permutation(count: int, epoch: int, seed: int) -> np.ndarray:
    key = (count, epoch, seed)
    if key not in _permutations:
        _permutations.clear()
        _permutations[key] = _generator(seed, epoch).permutation(count)
    return _permutations[key]


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, Stream.ORDER, 0, 0]))

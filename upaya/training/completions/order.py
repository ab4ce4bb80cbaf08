"""The order in which training takes its questions."""

import numpy as np

_permutations: dict[tuple[int, int, int], np.ndarray] = {}


def prompt_order(count: int, step: int, prompts: int, seed: int) -> list[int]:
    """Which of `count` questions a step uses: consecutive stretches of an endless series of seeded permutations."""
    chosen: list[int] = []
    for place in range(step * prompts, (step + 1) * prompts):
        epoch, within = divmod(place, count)
        chosen.append(int(_permutation(count, epoch, seed)[within]))
    return chosen


def _permutation(count: int, epoch: int, seed: int) -> np.ndarray:
    key = (count, epoch, seed)
    if key not in _permutations:
        _permutations.clear()
        _permutations[key] = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
    return _permutations[key]

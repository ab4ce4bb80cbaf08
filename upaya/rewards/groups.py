"""Groups of rewards: their mean as a baseline, and what becomes of each group."""

from typing import Literal, get_args

from torch import Tensor

Fate = Literal["live", "dead_all_wrong", "dead_all_right"]


def group_centred(rewards_PG: Tensor) -> Tensor:
    """Each reward less its group's mean: [P, G] → [P, G]. The baseline of DeepSeekMath (arXiv:2402.03300, §4.1.2)."""
    return rewards_PG - rewards_PG.mean(dim=1, keepdim=True)


def is_live(rewards_PG: Tensor) -> Tensor:
    """Whether a group's rewards differ, by exact equality (a standard deviation rounds): [P, G] → bool [P]."""
    return (rewards_PG != rewards_PG[:, :1]).any(dim=1)


def fates(rewards_PG: Tensor, exact_PG: Tensor) -> list[Fate]:
    """What becomes of each of P groups: live where rewards differ; dead otherwise, all-right where every completion is
    exactly right, all-wrong where they are equal without that."""
    live, right = is_live(rewards_PG), exact_PG.all(dim=1)
    return [
        "live" if alive else "dead_all_right" if all_right else "dead_all_wrong"
        for alive, all_right in zip(live.tolist(), right.tolist(), strict=True)
    ]


def shares(rewards_PG: Tensor, exact_PG: Tensor) -> dict[str, float]:
    """The share of groups that meet each fate; they add up to 1."""
    met = fates(rewards_PG, exact_PG)
    return {fate: met.count(fate) / len(met) for fate in get_args(Fate)}

"""Group-relative advantages, and what becomes of each group."""

from typing import Literal, get_args

from torch import Tensor

Fate = Literal["live", "dead_all_wrong", "dead_all_right"]
Scaling = Literal["none", "group", "batch"]

STD_EPSILON = 1e-4


def group_centred(rewards_PG: Tensor) -> Tensor:
    """Each reward less its group's mean: [P, G] → [P, G]. The baseline of DeepSeekMath (arXiv:2402.03300, §4.1.2)."""
    return rewards_PG - rewards_PG.mean(dim=1, keepdim=True)


def group_advantages(rewards_PG: Tensor, scaling: Scaling = "none") -> Tensor:
    """The advantage of each completion over its group: [P, G] → [P, G].

    Args:
        rewards_PG: rewards of all groups of the generation batch, dead ones included.
        scaling: what the centred rewards are divided by, a standard deviation with Bessel's correction plus 1e-4:
            `group`, the group's own (DeepSeekMath, arXiv:2402.03300, §4.1.2), which weighs a group the more the less
            its rewards differ (Liu et al. 2025, arXiv:2503.20783, §3.1); `batch`, that of all rewards (Hu et al. 2025,
            REINFORCE++, arXiv:2501.03262); `none`, nothing (Dr. GRPO, arXiv:2503.20783).
    """
    centred = group_centred(rewards_PG)
    match scaling:
        case "none":
            return centred
        case "group":
            return centred / (rewards_PG.std(dim=1, keepdim=True) + STD_EPSILON)
        case "batch":
            return centred / (rewards_PG.std() + STD_EPSILON)


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
    found = fates(rewards_PG, exact_PG)
    return {fate: found.count(fate) / len(found) for fate in get_args(Fate)}

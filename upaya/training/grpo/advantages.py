"""Group-relative advantages."""

from torch import Tensor

from upaya.declared.grpo import Scaling
from upaya.rewards.groups import group_centred

EPSILON = 1e-4


def group_advantages(rewards_PG: Tensor, scaling: Scaling = "none", floor_P: Tensor | None = None) -> Tensor:
    """The advantage of each completion over its group: [P, G] → [P, G].

    Args:
        rewards_PG: rewards of all groups of the generation batch, dead ones included.
        scaling: what the centred rewards are divided by, a standard deviation with Bessel's correction plus 1e-4:
            `group`, the group's own (DeepSeekMath, arXiv:2402.03300, §4.1.2), which weighs a group the more the less
            its rewards differ (Liu et al. 2025, arXiv:2503.20783, §3.1); `batch`, that of all rewards (Hu et al. 2025,
            REINFORCE++, arXiv:2501.03262); `none`, nothing (Dr. GRPO, arXiv:2503.20783). Or by their mean over the
            floor plus 1e-4, so that a success weighs 1/p where successes have the share p: `mean` (MaxRL,
            arXiv:2602.02710).
        floor_P: the least that can be earned in each group; needed for `mean`.
    """
    centred = group_centred(rewards_PG)
    match scaling:
        case "none":
            return centred
        case "group":
            return centred / (rewards_PG.std(dim=1, keepdim=True) + EPSILON)
        case "batch":
            return centred / (rewards_PG.std() + EPSILON)
        case "mean":
            assert floor_P is not None
            return centred / (rewards_PG.mean(dim=1, keepdim=True) - floor_P[:, None] + EPSILON)

"""Group-relative advantages."""

from torch import Tensor

from upaya.declared.grpo import Scaling
from upaya.rewards.groups import group_centred

STD_EPSILON = 1e-4


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

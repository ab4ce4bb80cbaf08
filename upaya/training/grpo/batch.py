"""The groups that one update learns from, and what is done about those that teach nothing."""

import torch
from torch import Tensor

from upaya.declared.grpo import DeadGroups, Refill, Scale
from upaya.rewards.groups import is_live
from upaya.sampling.decoding import Rollouts


class Batch:
    """Rounds of rollouts that are gathered for one update.

    Attributes:
        names: what each group's prompt is called in messages.
    """

    def __init__(self, dead_groups: DeadGroups) -> None:
        self.dead_groups = dead_groups
        self.rounds: list[Rollouts] = []
        self.rewards: list[Tensor] = []
        self.names: list[str] = []

    def add(self, rollouts: Rollouts, rewards_PG: Tensor, names: list[str]) -> None:
        self.rounds.append(rollouts)
        self.rewards.append(rewards_PG)
        self.names += names

    @property
    def rewards_PG(self) -> Tensor:
        return torch.cat(self.rewards)

    @property
    def rollouts(self) -> Rollouts:
        return Rollouts.joined(self.rounds)

    @property
    def live(self) -> list[int]:
        """The places of the live groups."""
        return [int(place) for place in is_live(self.rewards_PG).nonzero()[:, 0]]

    @property
    def is_ready(self) -> bool:
        """Whether an update is due."""
        match self.dead_groups:
            case Refill(live=wanted, most_rounds=most):
                return len(self.live) >= wanted or len(self.rounds) >= most
        return True

    @property
    def shortage(self) -> str | None:
        """What a refill that was cut short found, in words; None where nothing was short."""
        match self.dead_groups:
            case Refill(live=wanted) if len(self.live) < wanted:
                return f"{len(self.live)} of {wanted} live groups after {len(self.names)} prompts"
        return None

    @property
    def step_scale(self) -> float:
        """What the learning rate of the update is multiplied by."""
        return len(self.live) / len(self.names) if isinstance(self.dead_groups, Scale) else 1.0

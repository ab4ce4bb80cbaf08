"""The groups that one update learns from, and what is done about those that teach nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor

from upaya.declared.grpo import DeadGroups, Refill, Scale, Scaling
from upaya.sampling.decoding import Rollouts
from upaya.training.grpo.credit import FORM, WHOLE, Earned


class Batch:
    """Rounds of rollouts that are gathered for one update.

    Attributes:
        names: what each group's prompt is called in messages.
    """

    def __init__(self, dead_groups: DeadGroups) -> None:
        self.dead_groups = dead_groups
        self.rounds: list[Rollouts] = []
        self.earnings: list[Earned] = []
        self.slots: list[Tensor] = []
        self.names: list[str] = []

    def add(self, rollouts: Rollouts, earned: Earned, names: list[str], slots_PGT: Tensor | None = None) -> None:
        """Args: slots_PGT: the part of the answer that each token belongs to (upaya/training/grpo/credit.py); None
        where completions are credited as a whole: all is one part then."""
        self.rounds.append(rollouts)
        self.earnings.append(earned)
        self.slots.append(torch.full(rollouts.tokens_PGT.shape, FORM) if slots_PGT is None else slots_PGT)
        self.names += names

    @property
    def earned(self) -> Earned:
        return Earned.joined(self.earnings)

    @property
    def slots_PGT(self) -> Tensor:
        longest = max(part.shape[2] for part in self.slots)
        return torch.cat([F.pad(part, (0, longest - part.shape[2]), value=WHOLE) for part in self.slots])

    def advantages(self, scaling: Scaling) -> Tensor:
        """Of each token: [P, G, T]."""
        return self.earned.advantages(scaling, self.slots_PGT)

    @property
    def rollouts(self) -> Rollouts:
        return Rollouts.joined(self.rounds)

    @property
    def live(self) -> list[int]:
        """The places of the live groups."""
        return [int(place) for place in self.earned.live_P.nonzero()[:, 0]]

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

"""What completions have earned under the reward trained on, and what each of their tokens is told of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from upaya.declared.grpo import Scaling
from upaya.declared.regimes import Regime
from upaya.policy.model import Policy
from upaya.rewards.groups import is_live
from upaya.rewards.items import Item
from upaya.rewards.scoring import Scores
from upaya.sampling.decoding import Rollouts
from upaya.training.grpo.advantages import group_advantages

WHOLE = -1  # the slot of a token that belongs to no item


@dataclass(frozen=True)
class Earned:
    """The rewards of P groups of G completions. S: places of the longest right answer.

    Attributes:
        items_PGS: the reward of each completion if all its items were like the one in this place (NaN beyond a shorter
            answer); None where credit is given to completions as a whole.
        punishment_P: what negative advantages are multiplied by.
        floor_P: the least that can be earned.
        entropy_P: what a nat of entropy is worth.
    """

    rewards_PG: Tensor
    items_PGS: Tensor | None
    punishment_P: Tensor
    floor_P: Tensor
    entropy_P: Tensor

    @classmethod
    def as_a_whole(cls, rewards_PG: Tensor) -> "Earned":
        """By completions, punished as GRPO punishes."""
        groups = torch.ones(len(rewards_PG), dtype=rewards_PG.dtype)
        return cls(rewards_PG, None, groups, 0 * groups, 0 * groups)

    @classmethod
    def under(cls, name: str, regime: Regime, scores: Scores) -> "Earned":
        rewards_PG = scores.rewards_PG[name]
        groups = torch.ones(len(rewards_PG), dtype=rewards_PG.dtype)
        items_PGS = scores.items_PGS.get(name)
        return cls(rewards_PG, items_PGS, regime.punishment * groups, regime.floor * groups, regime.entropy * groups)

    @classmethod
    def blended(cls, parts: Sequence["Earned"], shares: Sequence[float]) -> "Earned":
        """The weighted mean; the shares add up to 1."""
        return cls._made_of(
            parts, lambda tensors: torch.stack([s * each for s, each in zip(shares, tensors, strict=True)]).sum(0)
        )

    @classmethod
    def chosen(cls, parts: Sequence["Earned"], by_P: Tensor) -> "Earned":
        """Each group as in the part that `by_P` numbers."""
        groups = torch.arange(len(by_P))
        return cls._made_of(parts, lambda tensors: torch.stack(list(tensors))[by_P, groups])

    @classmethod
    def _made_of(cls, parts: Sequence["Earned"], made: Callable[[Sequence[Tensor]], Tensor]) -> "Earned":
        """What several rewards make of the same rollouts, attribute by attribute."""
        return cls(
            made([part.rewards_PG for part in parts]),
            made(_alike(parts)) if any(part.items_PGS is not None for part in parts) else None,
            made([part.punishment_P for part in parts]),
            made([part.floor_P for part in parts]),
            made([part.entropy_P for part in parts]),
        )

    @classmethod
    def joined(cls, rounds: Sequence["Earned"]) -> "Earned":
        """All groups of several rounds under one reward."""
        items = None
        if rounds[0].items_PGS is not None:
            parts = [part.items_PGS for part in rounds if part.items_PGS is not None]
            longest = max(part.shape[2] for part in parts)
            items = torch.cat([F.pad(part, (0, longest - part.shape[2]), value=float("nan")) for part in parts])
        return cls(
            torch.cat([part.rewards_PG for part in rounds]),
            items,
            torch.cat([part.punishment_P for part in rounds]),
            torch.cat([part.floor_P for part in rounds]),
            torch.cat([part.entropy_P for part in rounds]),
        )

    @property
    def live_P(self) -> Tensor:
        """Groups that have something to compare, be it one item: bool [P]."""
        live = is_live(self.rewards_PG)
        if self.items_PGS is not None:
            places = self.items_PGS.nan_to_num()
            live = live | (places != places[:, :1]).any(dim=(1, 2))
        return live

    def advantages(self, scaling: Scaling, slots_PGT: Tensor) -> Tensor:
        """The advantage of each token: [P, G, T]. An item is compared with the same item of its group.

        Args:
            slots_PGT: the item that a token belongs to, by its place among the right items; WHOLE for none.
        """
        whole_PG = group_advantages(self.rewards_PG, scaling, self.floor_P)
        told_PGT = whole_PG[:, :, None].expand(slots_PGT.shape)
        if self.items_PGS is not None:
            groups, size, places = self.items_PGS.shape
            by_place = self.items_PGS.nan_to_num().movedim(2, 1).reshape(groups * places, size)
            items = group_advantages(by_place, scaling, self.floor_P.repeat_interleave(places))
            items_PGS = items.view(groups, places, size).movedim(1, 2)
            told_PGT = torch.where(slots_PGT >= 0, items_PGS.gather(2, slots_PGT.clamp(min=0)), told_PGT)
        return torch.where(told_PGT < 0, told_PGT * self.punishment_P[:, None, None], told_PGT)

    def entropy_bonus(self, slots_PGT: Tensor) -> Tensor:
        """What a nat of entropy is worth at each token: [P, G, T]. Where items have credit of their own, the form is
        settled, and only what an item says is to stay open."""
        bonus_PGT = self.entropy_P[:, None, None].expand(slots_PGT.shape)
        return bonus_PGT if self.items_PGS is None else bonus_PGT * (slots_PGT >= 0)


def _alike(parts: Sequence[Earned]) -> list[Tensor]:
    """The items' rewards of each part; where it knows none, the whole's for each."""
    size = next(part.items_PGS.shape[2] for part in parts if part.items_PGS is not None)
    return [
        part.rewards_PG[:, :, None].expand(-1, -1, size) if part.items_PGS is None else part.items_PGS for part in parts
    ]


def token_slots(
    policy: Policy, rollouts: Rollouts, said: Sequence[Sequence[Sequence[Item]]], begun: Sequence[str] | None = None
) -> Tensor:
    """Which item each token belongs to: [P, G, T], its place among the right items, or WHOLE.

    A token belongs to the item in which its first character stands.

    Args:
        said: the items of each completion, P × G.
        begun: for each prompt how its completions had been begun for the policy.
    """
    slots_PGT = torch.full(rollouts.tokens_PGT.shape, WHOLE)
    for p, group in enumerate(said):
        begin = begun[p] if begun else ""
        known: dict[tuple[tuple[int, ...], tuple[Item, ...]], list[int]] = {}
        for g, items in enumerate(group):
            tokens = tuple(rollouts.tokens_PGT[p, g, : int(rollouts.lengths_PG[p, g])].tolist())
            key = (tokens, tuple(items))
            if key not in known:
                slot_at = {
                    place: item.slot
                    for item in items
                    if item.slot is not None
                    for place in range(item.span.start, item.span.end)
                }
                known[key] = [slot_at.get(start, WHOLE) for start in policy.token_starts(tokens, begin)]
            slots_PGT[p, g, : len(tokens)] = torch.tensor(known[key])
    return slots_PGT


def earned_under(regimes: Mapping[str, Regime], scores: Scores) -> dict[str, Earned]:
    """What was earned under each regime."""
    return {name: Earned.under(name, regime, scores) for name, regime in regimes.items()}

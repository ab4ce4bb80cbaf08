"""What completions have earned under the reward trained on, and what each of their tokens is told of it."""

import math
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

# The part of its answer that a token belongs to: its form, or an item, which is its place among the right ones plus 1.
WHOLE = -1  # of what comes before the answer and leads to it: the completion as a whole
FORM = 0


@dataclass(frozen=True)
class Earned:
    """The rewards of P groups of G completions. K: the parts of the longest right answer, its form and its items.

    Attributes:
        parts_PGK: the reward of each completion if all that it says were right (of its form), and if all its items were
            like the one in this place (NaN beyond a shorter answer); None where credit is given to completions as a
            whole.
        punishment_P: what negative advantages are multiplied by.
        floor_P: the least that can be earned.
        entropy_PK: what a nat of entropy is worth in each part; K is 1 where credit is given to completions as a whole.
    """

    rewards_PG: Tensor
    parts_PGK: Tensor | None
    punishment_P: Tensor
    floor_P: Tensor
    entropy_PK: Tensor

    @classmethod
    def as_a_whole(cls, rewards_PG: Tensor) -> "Earned":
        """By completions, punished as GRPO punishes."""
        groups = torch.ones(len(rewards_PG), dtype=rewards_PG.dtype)
        return cls(rewards_PG, None, groups, 0 * groups, 0 * groups[:, None])

    @classmethod
    def under(cls, name: str, regime: Regime, scores: Scores) -> "Earned":
        rewards_PG = scores.rewards_PG[name]
        groups = torch.ones(len(rewards_PG), dtype=rewards_PG.dtype)
        parts_PGK = scores.parts_PGK.get(name)
        if parts_PGK is None:
            open_PK = ~scores.exact_PG.any(dim=1, keepdim=True)
        else:
            unfound_PS = ~(scores.right_PGS.nan_to_num() > 0).any(dim=1)
            open_PK = F.pad(unfound_PS, (1, 0), value=False)  # a form is taught, not found
        entropy_PK = regime.entropy * open_PK.to(rewards_PG.dtype)
        return cls(rewards_PG, parts_PGK, regime.punishment * groups, regime.floor * groups, entropy_PK)

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
        size = max(part.entropy_PK.shape[1] for part in parts)
        return cls(
            made([part.rewards_PG for part in parts]),
            made(_alike(parts)) if any(part.parts_PGK is not None for part in parts) else None,
            made([part.punishment_P for part in parts]),
            made([part.floor_P for part in parts]),
            made([part.entropy_PK.expand(-1, size) for part in parts]),
        )

    @classmethod
    def joined(cls, rounds: Sequence["Earned"]) -> "Earned":
        """All groups of several rounds. A ladder may have changed its rung in between: rounds with credit to
        completions as a whole stand beside such with credit to parts as completions of which each part earned the
        whole's reward."""
        of_parts = _alike(rounds) if any(part.parts_PGK is not None for part in rounds) else None
        return cls(
            torch.cat([part.rewards_PG for part in rounds]),
            _padded(of_parts, float("nan")) if of_parts else None,
            torch.cat([part.punishment_P for part in rounds]),
            torch.cat([part.floor_P for part in rounds]),
            _padded([part.entropy_PK for part in rounds], 0.0),
        )

    @property
    def live_P(self) -> Tensor:
        """Groups that have something to compare, be it one part: bool [P]."""
        live = is_live(self.rewards_PG)
        if self.parts_PGK is not None:
            parts = self.parts_PGK.nan_to_num()
            live = live | (parts != parts[:, :1]).any(dim=(1, 2))
        return live

    def advantages(self, scaling: Scaling, slots_PGT: Tensor) -> Tensor:
        """The advantage of each token: [P, G, T].

        An item is compared with the same item of its group. A form that is worse than its group's is told so; any other
        shares in what the whole is encouraged for, and has no part in the blame for wrong items.

        Args:
            slots_PGT: the part that a token belongs to: an item's place among the right ones plus 1, FORM or WHOLE.
        """
        whole_PG = group_advantages(self.rewards_PG, scaling, self.floor_P)
        told_PGT = whole_PG[:, :, None].expand(slots_PGT.shape)
        if self.parts_PGK is not None:
            groups, size, parts = self.parts_PGK.shape
            by_part = self.parts_PGK.nan_to_num().movedim(2, 1).reshape(groups * parts, size)
            advantages = group_advantages(by_part, scaling, self.floor_P.repeat_interleave(parts))
            of_parts_PGK = advantages.view(groups, parts, size).movedim(1, 2).clone()
            of_form_PG = of_parts_PGK[:, :, FORM]
            of_parts_PGK[:, :, FORM] = of_form_PG.where(of_form_PG < 0, torch.maximum(of_form_PG, whole_PG))
            told_PGT = torch.where(slots_PGT >= FORM, of_parts_PGK.gather(2, slots_PGT.clamp(min=FORM)), told_PGT)
        return torch.where(told_PGT < 0, told_PGT * self.punishment_P[:, None, None], told_PGT)

    def entropy_bonus(self, slots_PGT: Tensor) -> Tensor:
        """What a nat of entropy is worth at each token: [P, G, T]; nothing in what leads to an answer that is told of
        its parts."""
        worth_PGK = self.entropy_PK[:, None].expand(-1, slots_PGT.shape[1], -1)
        if self.parts_PGK is None:
            return worth_PGK.expand(slots_PGT.shape)
        return worth_PGK.gather(2, slots_PGT.clamp(min=FORM)) * (slots_PGT >= FORM)


def _alike(parts: Sequence[Earned]) -> list[Tensor]:
    """What each reward makes of the parts of an answer; where it knows none, the whole's reward for all."""
    size = next(part.parts_PGK.shape[2] for part in parts if part.parts_PGK is not None)
    return [
        part.rewards_PG[:, :, None].expand(-1, -1, size) if part.parts_PGK is None else part.parts_PGK for part in parts
    ]


def _padded(rounds: Sequence[Tensor], value: float) -> Tensor:
    """All groups of several rounds, whose right answers may have different numbers of parts."""
    longest = max(part.shape[-1] for part in rounds)
    return torch.cat([F.pad(part, (0, longest - part.shape[-1]), value=value) for part in rounds])


def token_slots(
    policy: Policy, rollouts: Rollouts, said: Sequence[Sequence[Sequence[Item]]], begun: Sequence[str] | None = None
) -> Tensor:
    """Which part of the answer each token belongs to: [P, G, T], an item's place among the right ones plus 1, FORM or
    WHOLE.

    A token belongs to the item in which its first character stands. Everything else from the answer's first character
    on is form: separators, items too many, what closes the answer, the end, and whatever comes in between. What stands
    before the answer leads to all of it, and belongs to the whole.

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
                    place: item.slot + 1
                    for item in items
                    if item.slot is not None
                    for place in range(item.span.start, item.span.end)
                }
                answer_at = items[0].span.start if items else math.inf
                known[key] = [
                    slot_at.get(start, FORM) if start >= answer_at else WHOLE
                    for start in policy.token_starts(tokens, begin)
                ]
            slots_PGT[p, g, : len(tokens)] = torch.tensor(known[key])
    return slots_PGT


def earned_under(regimes: Mapping[str, Regime], scores: Scores) -> dict[str, Earned]:
    """What was earned under each regime."""
    return {name: Earned.under(name, regime, scores) for name, regime in regimes.items()}

"""Completions scored under every regime at once: each component is computed once, whichever regimes share it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from upaya.corpus.answers import Completion, parse
from upaya.corpus.questions import Question
from upaya.declared.regimes import Regime
from upaya.rewards.components import BY_ITEM, component, exact
from upaya.rewards.items import Item, item_values, right_items, said_items
from upaya.rewards.regimes import reward


@dataclass
class Scores:
    """Rewards of P·G completions under every regime, and what they are made of.

    S: items of the longest right answer. K = 1 + S: the parts of an answer, its form first, then its items.

    Attributes:
        rewards_PG: regime name → float64 rewards.
        components_PG: component name → its values, for all components of the regimes.
        exact_PG: whether a completion is exactly right in the right form: the strict measure.
        well_formed_PG: whether it has the right form.
        right_PGS: whether the item in each place of the right answer was said; NaN beyond a shorter answer.
        parts_PGK: regime name → for regimes that give credit item by item, what the completion would earn if all the
            items that it says were right (of its form), and if all were like the one in this place (of an item).
        said: each completion's items, P × G.
    """

    rewards_PG: dict[str, Tensor]
    components_PG: dict[str, Tensor]
    exact_PG: Tensor
    well_formed_PG: Tensor
    right_PGS: Tensor
    parts_PGK: dict[str, Tensor] = field(default_factory=dict)
    said: list[list[list[Item]]] = field(default_factory=list)


@dataclass(frozen=True)
class _Scored:
    """One completion's scores. Attributes: right: whether each of S items is; parts: K rewards for each regime."""

    numbers: list[float]
    right: list[float]
    parts: list[list[float]]
    said: list[Item]


def score(texts: Sequence[Sequence[str]], questions: Sequence[Question], regimes: Mapping[str, Regime]) -> Scores:
    """Score G completions for each of P questions under every regime."""
    components = sorted({name for regime in regimes.values() for name in regime.components})
    itemwise = [name for name, regime in regimes.items() if regime.credit == "item"]
    slots = max(len(right_items(question)) for question in questions)
    scored: list[list[_Scored]] = []
    for group, question in zip(texts, questions, strict=True):
        known: dict[str, _Scored] = {}  # a policy that is sure of itself says the same thing G times
        for text in group:
            if text not in known:
                known[text] = _score(text, question, regimes, components, itemwise, slots)
        scored.append([known[text] for text in group])
    numbers = torch.tensor([[each.numbers for each in group] for group in scored], dtype=torch.float64)
    parts = torch.tensor([[each.parts for each in group] for group in scored], dtype=torch.float64)
    exact_PG, well_formed_PG, *rest = numbers.unbind(-1)
    return Scores(
        rewards_PG=dict(zip(regimes, rest, strict=False)),
        components_PG=dict(zip(components, rest[len(regimes) :], strict=True)),
        exact_PG=exact_PG > 0,
        well_formed_PG=well_formed_PG > 0,
        right_PGS=torch.tensor([[each.right for each in group] for group in scored], dtype=torch.float64),
        parts_PGK={name: parts[:, :, place] for place, name in enumerate(itemwise)},
        said=[[each.said for each in group] for group in scored],
    )


def _score(
    text: str, question: Question, regimes: Mapping[str, Regime], components: Sequence[str], itemwise: Sequence[str],
    slots: int,
) -> _Scored:  # fmt: skip
    completion = parse(text, question.form)
    values = {name: component(name)(completion, question) for name in components}
    rewards = {name: reward(regime, values, completion, question) for name, regime in regimes.items()}
    said = said_items(completion, question)
    size = len(right_items(question))
    right = _by_slot(item_values(BY_ITEM["positions"], said, completion, question), said, size)
    padding = [float("nan")] * (slots - size)
    parts = [
        _by_part(regimes[name], rewards[name], values, completion, question, said, size) + padding for name in itemwise
    ]
    return _Scored(
        [exact(completion, question), completion.well_formed, *rewards.values(), *values.values()],
        right + padding,
        parts,
        said,
    )


def _by_part(
    regime: Regime, earned: float, values: Mapping[str, float], completion: Completion, question: Question,
    said: Sequence[Item], size: int,
) -> list[float]:  # fmt: skip
    """For the form and each place of the right answer what the whole earned, with the components that know items taken
    at this part alone: for the form as if every item said were right, so that items too many or too few are its fault.
    With one item, what the whole earned: there is nothing to tell apart."""
    shares = [earned] * (1 + size)
    for name, part in regime.components.items():
        if name in BY_ITEM:
            own = _by_slot(item_values(BY_ITEM[name], said, completion, question), said, size)
            placed = sum(item.slot is not None for item in said) / max(len(said), size)
            whole = min(1.0, values[name] / part.saturates_at)
            shares = [
                share + part.weight * (min(1.0, value / part.saturates_at) - whole)
                for share, value in zip(shares, [placed, *own], strict=True)
            ]
    return shares if size > 1 else [earned, *shares[1:]]


def _by_slot(values: Sequence[float], said: Sequence[Item], size: int) -> list[float]:
    """The items' values at their places; 0 where none was said."""
    at = [0.0] * size
    for value, item in zip(values, said, strict=True):
        if item.slot is not None:
            at[item.slot] = value
    return at


def right_by_skill(scores: Scores, questions: Sequence[Question]) -> list[list[tuple[str, Tensor]]]:
    """For each question the skills that its items need, each with 1 or 0 for every completion, [G]; for one that
    declares none, its kind with whether the completion is exactly right."""
    return [
        [(skill, scores.right_PGS[place, :, slot]) for slot, skill in enumerate(question.skills)]
        or [(question.kind, scores.exact_PG[place].double())]
        for place, question in enumerate(questions)
    ]


def success_by_skill(scores: Scores, questions: Sequence[Question]) -> dict[str, float]:
    """How often each skill was right, over the completions that needed it; of questions that declare none, their
    kind's success."""
    found: dict[str, list[float]] = {}
    for of_question in right_by_skill(scores, questions):
        for skill, right_G in of_question:
            found.setdefault(skill, []).append(right_G.mean().item())
    return {skill: sum(shares) / len(shares) for skill, shares in sorted(found.items())}

"""Completions scored under every regime at once: each component is computed once, whichever regimes share it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from upaya.corpus.answers import parse
from upaya.corpus.questions import Question
from upaya.declared.regimes import Regime
from upaya.rewards.components import component, exact
from upaya.rewards.regimes import reward


@dataclass
class Scores:
    """Rewards of P·G completions under every regime, and what they are made of.

    Attributes:
        rewards_PG: regime name → float64 rewards.
        components_PG: component name → its values, for all components of the regimes.
        exact_PG: whether a completion is exactly right in the right form: the strict measure.
        well_formed_PG: whether it has the right form.
    """

    rewards_PG: dict[str, Tensor]
    components_PG: dict[str, Tensor]
    exact_PG: Tensor
    well_formed_PG: Tensor


def score(texts: Sequence[Sequence[str]], questions: Sequence[Question], regimes: Mapping[str, Regime]) -> Scores:
    """Score G completions for each of P questions under every regime."""
    components = sorted({name for regime in regimes.values() for name in regime.components})
    rows: list[list[list[float]]] = []
    for group, question in zip(texts, questions, strict=True):
        known: dict[str, list[float]] = {}  # a policy that is sure of itself says the same thing G times
        for text in group:
            if text not in known:
                completion = parse(text)
                values = {name: component(name)(completion, question) for name in components}
                rewards = [reward(regime, values, completion, question) for regime in regimes.values()]
                known[text] = [exact(completion, question), completion.well_formed, *rewards, *values.values()]
        rows.append([known[text] for text in group])
    exact_PG, well_formed_PG, *rest = torch.tensor(rows, dtype=torch.float64).unbind(-1)
    return Scores(
        rewards_PG=dict(zip(regimes, rest, strict=False)),
        components_PG=dict(zip(components, rest[len(regimes) :], strict=True)),
        exact_PG=exact_PG > 0,
        well_formed_PG=well_formed_PG > 0,
    )

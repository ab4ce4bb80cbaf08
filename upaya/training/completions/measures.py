"""What a step's rollouts look like under every regime: the numbers of a line of history.jsonl."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from upaya.corpus.questions import Question
from upaya.rewards.groups import group_centred, shares
from upaya.rewards.scoring import Scores, success_by_skill
from upaya.sampling.decoding import Rollouts


def measure(rollouts: Rollouts, scores: Scores, questions: Sequence[Question]) -> dict[str, Any]:
    """Success, of the whole and of each skill, form, entropy (before truncation) and length, the probability that
    truncated sampling drops; under each regime the mean reward, the groups' fates and the rewarded-wrong share; each
    component's mean and standard deviation over the completions."""
    tokens = rollouts.lengths_PG.sum().item()
    return {
        "success": scores.exact_PG.double().mean().item(),
        "skills": success_by_skill(scores, questions),
        "format_rate": scores.well_formed_PG.double().mean().item(),
        "dropped_mass": rollouts.dropped_PGT.sum().item() / tokens,
        "entropy": rollouts.entropies_PGT.sum().item() / tokens,
        "completion_length": tokens / rollouts.lengths_PG.numel(),
        "truncated": 1 - rollouts.finished_PG.double().mean().item(),
        "regimes": {name: under(rewards_PG, scores.exact_PG) for name, rewards_PG in scores.rewards_PG.items()},
        "components": {
            name: {"mean": values.mean().item(), "spread": values.std(unbiased=False).item()}
            for name, values in scores.components_PG.items()
        },
    }


def under(rewards_PG: Tensor, exact_PG: Tensor) -> dict[str, Any]:
    """Mean reward, fates of the groups and rewarded-wrong share under one reward."""
    return {
        "reward": rewards_PG.mean().item(),
        **shares(rewards_PG, exact_PG),
        "rewarded_wrong": rewarded_wrong(rewards_PG, exact_PG),
    }


def rewarded_wrong(rewards_PG: Tensor, exact_PG: Tensor) -> float | None:
    """How much of the positive advantage goes to completions that are not exactly right: the price of leniency.

    [P, G] rewards → Σ max(A, 0) over the wrong / Σ max(A, 0) over all, in [0, 1]; None where no advantage is positive.
    """
    positive = group_centred(rewards_PG).clamp(min=0)
    total = positive.sum().item()
    return positive[~exact_PG].sum().item() / total if total > 0 else None

"""Evaluation on questions unseen by training: greedy strict accuracy, unbiased pass@k, format, lenient score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upaya.grpo.advantages import is_live
from upaya.params import Evaluation
from upaya.policy import Policy
from upaya.questions import Question
from upaya.rewards.regimes import Regime
from upaya.rewards.scoring import score
from upaya.sampling import SamplingParams, sample


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k completions is right, from c right ones among n ≥ k.

    1 − C(n−c, k)/C(n, k): Chen et al. 2021 (Codex, arXiv:2107.03374), eq. 1.
    """
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def interval(values: Sequence[float], resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over questions."""
    data = np.asarray(values, dtype=float)
    rng = np.random.Generator(np.random.Philox(key=[seed, 95]))
    means = data[rng.integers(0, len(data), size=(resamples, len(data)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Evaluated:
    """One value per question for each measure, and the sampled completions with their scores."""

    measures: dict[str, list[float]]
    samples: list[dict[str, Any]]
    generated_tokens: int


def evaluate(
    policy: Policy,
    questions: Sequence[Question],
    regimes: Mapping[str, Regime],
    params: Evaluation,
    sampling: SamplingParams,
    group_size: int,
    seed: int,
) -> Evaluated:
    """Greedy and sampled completions of every question, scored under every regime.

    Measures: strict_accuracy (greedy), pass_at_k for each k, format_rate and reward/<regime> (means over samples),
    dead/<regime> (whether the first `group_size` samples all have one reward: a group GRPO would learn nothing from),
    contrast (whether they hold both right and wrong completions: more than the form to learn from).
    """
    prompts = [policy.encode_prompt(question.prompt) for question in questions]
    indices = range(len(questions))
    greedy_params = sampling.model_copy(update={"temperature": 0.0})
    greedy = sample(policy, prompts, 1, greedy_params, seed=seed, step=0, prompt_indices=indices)
    sampled = sample(policy, prompts, params.samples, sampling, seed=seed, step=0, prompt_indices=indices)
    greedy_texts, texts = greedy.texts(policy), sampled.texts(policy)
    greedy_scores, scores = score(greedy_texts, questions, regimes), score(texts, questions, regimes)
    right = scores.exact_PG.sum(dim=1).tolist()
    measures = {"strict_accuracy": greedy_scores.exact_PG[:, 0].double().tolist()}
    for k in params.ks:
        measures[f"pass_at_{k}"] = [pass_at_k(params.samples, c, k) for c in right]
    measures["format_rate"] = scores.well_formed_PG.double().mean(dim=1).tolist()
    for name, rewards_PG in scores.rewards_PG.items():
        measures[f"reward/{name}"] = rewards_PG.mean(dim=1).tolist()
        measures[f"dead/{name}"] = (~is_live(rewards_PG[:, :group_size])).double().tolist()
    group_exact = scores.exact_PG[:, :group_size]
    measures["contrast"] = (group_exact.any(dim=1) & ~group_exact.all(dim=1)).double().tolist()
    rows = []
    for i, question in enumerate(questions):
        outputs = [("greedy", greedy_texts[i][0], greedy_scores, 0), ("sampled", texts[i][0], scores, 0)]
        for how, text, found, sample_index in outputs:
            rows.append(
                {
                    "id": question.id,
                    "kind": question.kind,
                    "decoding": how,
                    "prompt": question.prompt,
                    "gold": question.gold,
                    "completion": text,
                    "exact": bool(found.exact_PG[i, sample_index]),
                    **{f"reward/{name}": r[i, sample_index].item() for name, r in found.rewards_PG.items()},
                }
            )
    return Evaluated(measures, rows, int(greedy.lengths_PG.sum() + sampled.lengths_PG.sum()))


def summary(
    measures: dict[str, list[float]], chosen: Sequence[int], resamples: int, seed: int
) -> dict[str, float | list[float]]:
    """Each measure's mean over the chosen questions, and its interval as `<measure>_interval`."""
    found: dict[str, float | list[float]] = {}
    for name, values in measures.items():
        part = [values[i] for i in chosen]
        found[name] = round(float(np.mean(part)), 6)
        found[f"{name}_interval"] = [round(bound, 6) for bound in interval(part, resamples, seed)]
    return found

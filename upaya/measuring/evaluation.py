"""Evaluation on questions unseen by training: greedy strict accuracy, unbiased pass@k, format, lenient score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upaya.corpus.questions import Question
from upaya.declared.evaluation import Evaluation
from upaya.declared.sampling import SamplingParams
from upaya.measuring.setting import Setting
from upaya.measuring.statistics import interval, pass_at_k
from upaya.policy.model import Policy
from upaya.rewards.groups import is_live
from upaya.rewards.scoring import Scores, score, success_by_skill
from upaya.sampling.decoding import Rollouts, sample
from upaya.sampling.philox import Stream


@dataclass(frozen=True)
class Evaluated:
    """One value per question for each measure, how often each skill was right in the samples, completions with their
    scores."""

    measures: dict[str, list[float]]
    skills: dict[str, float]
    samples: list[dict[str, Any]]
    generated_tokens: int


def evaluate(
    policy: Policy,
    questions: Sequence[Question],
    params: Evaluation,
    setting: Setting,
) -> Evaluated:
    """Greedy and sampled completions of every question, scored under every regime.

    Measures: strict_accuracy (greedy), pass_at_k for each k, format_rate and reward/<regime> (means over samples),
    dead/<regime> (whether the first `group_size` samples all have one reward: a group GRPO would learn nothing from),
    contrast (whether they hold both right and wrong completions: more than the form to learn from).
    """
    prompts = [policy.encode_prompt(question.prompt) for question in questions]
    greedy = _drawn(policy, prompts, 1, setting.sampling.model_copy(update={"temperature": 0.0}), setting.seed)
    sampled = _drawn(policy, prompts, params.samples, setting.sampling, setting.seed)
    texts = {"greedy": greedy.texts(policy), "sampled": sampled.texts(policy)}
    scores = {how: score(said, questions, setting.regimes) for how, said in texts.items()}
    return Evaluated(
        measures=_measures(scores["greedy"], scores["sampled"], params, setting.group_size),
        skills=success_by_skill(scores["sampled"], questions),
        samples=_rows(questions, texts, scores),
        generated_tokens=int(greedy.lengths_PG.sum() + sampled.lengths_PG.sum()),
    )


def _drawn(
    policy: Policy, prompts: Sequence[Sequence[int]], samples: int, sampling: SamplingParams, seed: int
) -> Rollouts:
    indices = range(len(prompts))
    return sample(
        policy, prompts, samples, sampling, seed=seed, step=0, prompt_indices=indices, stream=Stream.EVALUATION
    )


def _measures(greedy: Scores, sampled: Scores, params: Evaluation, group_size: int) -> dict[str, list[float]]:
    right = sampled.exact_PG.sum(dim=1).tolist()
    measures = {"strict_accuracy": greedy.exact_PG[:, 0].double().tolist()}
    for k in params.ks:
        measures[f"pass_at_{k}"] = [pass_at_k(params.samples, c, k) for c in right]
    measures["format_rate"] = sampled.well_formed_PG.double().mean(dim=1).tolist()
    for name, rewards_PG in sampled.rewards_PG.items():
        measures[f"reward/{name}"] = rewards_PG.mean(dim=1).tolist()
        measures[f"dead/{name}"] = (~is_live(rewards_PG[:, :group_size])).double().tolist()
    group_exact = sampled.exact_PG[:, :group_size]
    measures["contrast"] = (group_exact.any(dim=1) & ~group_exact.all(dim=1)).double().tolist()
    return measures


def _rows(
    questions: Sequence[Question], texts: Mapping[str, list[list[str]]], scores: Mapping[str, Scores]
) -> list[dict[str, Any]]:
    """Of every question the greedy completion and the first sampled one, with their scores."""
    return [
        {
            "id": question.id,
            "kind": question.kind,
            "decoding": how,
            "prompt": question.prompt,
            "gold": question.gold,
            "completion": texts[how][i][0],
            "exact": bool(scores[how].exact_PG[i, 0]),
            **{f"reward/{name}": rewards_PG[i, 0].item() for name, rewards_PG in scores[how].rewards_PG.items()},
        }
        for i, question in enumerate(questions)
        for how in ("greedy", "sampled")
    ]


def summary(
    measures: dict[str, list[float]], chosen: Sequence[int], resamples: int, seed: int
) -> dict[str, float | list[float]]:
    """Each measure's mean over the chosen questions, and its interval as `<measure>_interval`."""
    estimates: dict[str, float | list[float]] = {}
    for name, values in measures.items():
        part = [values[i] for i in chosen]
        estimates[name] = round(float(np.mean(part)), 6)
        estimates[f"{name}_interval"] = [round(bound, 6) for bound in interval(part, resamples, seed)]
    return estimates

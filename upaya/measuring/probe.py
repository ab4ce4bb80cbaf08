"""The probe: what a policy could learn from before any GRPO, and which curriculum that recommends.

It samples k completions for each of n validation questions and asks three things. How often is one right (pass@k)?
How many groups of G would be dead under each regime? And are the right answers within the policy's reach at all: RL
makes likelier what is sampled, so a token that is never sampled is never learnt.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from upaya.corpus.answers import parse
from upaya.corpus.questions import Question, read
from upaya.declared.model import load_model_file
from upaya.declared.probe import Probe
from upaya.declared.regimes import Regime
from upaya.declared.sampling import SamplingParams
from upaya.declared.selection import Selection
from upaya.declared.validation import Declared, FileName, Name, Seed, load_keys
from upaya.measuring.probe_report import over
from upaya.measuring.setting import Setting
from upaya.measuring.statistics import pass_at_k
from upaya.paths import CURRICULA, POLICIES, QUESTIONS, REGIMES
from upaya.policy.model import Policy, load
from upaya.records.policies import verified
from upaya.records.probes import SUCCESS, Dead, Reach, Recommendation, Report, Skill
from upaya.rewards.groups import is_live
from upaya.rewards.regimes import check_all
from upaya.rewards.scoring import Scores, right_by_skill, score
from upaya.sampling.decoding import sample
from upaya.sampling.philox import Stream
from upaya.terminal import Progress

AT_ONCE = 16  # questions whose completions are drawn side by side


class Params(Declared):
    """Of params/curricula.yaml."""

    seed: Seed
    model: FileName
    questions: Selection
    sampling: SamplingParams
    group_size: int = Field(gt=1)
    probe: Probe


class Regimes(Declared):
    """Of params/regimes.yaml."""

    measured: dict[Name, Regime]


def probe(name: str, policy: Policy, questions: Sequence[Question], params: Probe, setting: Setting) -> Report:
    """Probe a policy on the first `params.questions` of the questions; the size of a group of the training that is
    being decided on is always among those reported."""
    asked, seed = list(questions[: params.questions]), setting.seed
    prompts = [policy.encode_prompt(question.prompt) for question in asked]

    def draw(step: int, progress: Progress) -> Scores:
        texts: list[list[str]] = []
        for start in range(0, len(asked), AT_ONCE):
            indices = range(start, min(start + AT_ONCE, len(asked)))
            rollouts = sample(
                policy, prompts[start : start + AT_ONCE], params.samples, setting.sampling, seed=seed, step=step,
                prompt_indices=indices, stream=Stream.PROBE,
            )  # fmt: skip
            texts += rollouts.texts(policy)
            progress.advance(by=len(indices))
        return score(texts, asked, setting.regimes)

    with Progress(f"probe {name}", 2 * len(asked), unit="question") as progress:
        # The prediction is checked on completions that it was not made from.
        first, second = draw(0, progress), draw(1, progress)
    dead = _dead(first, second, sorted({*params.group_sizes, setting.group_size}), seed)
    right = first.exact_PG.sum(dim=1).tolist()
    ks = [2**power for power in range(int(math.log2(params.samples)) + 1)]
    skills = skills_of(first, asked, seed)
    reach = reach_of(policy, prompts, asked, params.top, setting.sampling.temperature, seed)
    return Report(
        policy=name,
        questions=len(asked),
        samples=params.samples,
        group_size=setting.group_size,
        format_rate=over(first.well_formed_PG.double().mean(dim=1).tolist(), seed),
        pass_at={k: over([pass_at_k(params.samples, c, k) for c in right], seed) for k in ks},
        dead=dead,
        reach=reach,
        skills=skills,
        missing=[name for name, skill in skills.items() if skill.pass_at_k.mean < params.missing_below],
        recommendation=recommend(dead, reach, setting.group_size, params),
    )


def probe_declared(name: str, source: str | Path | None = None) -> Report:
    """Probe as params/ say: a policy of the tree by its name, or with `source` any model by its folder or hub name."""
    params = load_keys(CURRICULA, Params, group_size="grpo.group_size")
    regimes = load_keys(REGIMES, Regimes).measured
    check_all(regimes)
    questions = read(QUESTIONS, "validation", params.questions)
    handling = load_model_file(params.model)
    if not source:
        verified(name)
    policy = load(source) if source else load(POLICIES / name, handling)
    policy.system_prompt = handling.system_prompt
    return probe(
        name, policy, questions, params.probe, Setting(regimes, params.sampling, params.group_size, params.seed)
    )


def _dead(first: Scores, second: Scores, sizes: Sequence[int], seed: int) -> dict[str, dict[int, Dead]]:
    """Shares of dead groups under every regime, and of those without right beside wrong, predicted from the one draw
    and observed in the other."""
    outcomes = {
        **{regime: (first.rewards_PG[regime], second.rewards_PG[regime]) for regime in first.rewards_PG},
        SUCCESS: (first.exact_PG.double(), second.exact_PG.double()),
    }
    return {
        regime: {
            size: Dead(
                predicted=over(predicted_dead(seen, size), seed),
                observed=over(observed_dead(fresh, size), seed),
            )
            for size in sizes
        }
        for regime, (seen, fresh) in outcomes.items()
    }


def skills_of(scores: Scores, questions: Sequence[Question], seed: int) -> dict[str, Skill]:
    """What was sampled of each skill; of questions that declare none, of their kind as a whole."""
    found: dict[str, list[Tensor]] = {}
    for of_question in right_by_skill(scores, questions):
        for name, right_K in of_question:
            found.setdefault(name, []).append(right_K)
    return {
        name: Skill(
            success=over([right.mean().item() for right in seen], seed),
            pass_at_k=over([float(right.any()) for right in seen], seed),
        )
        for name, seen in sorted(found.items())
    }


def predicted_dead(rewards_PK: Tensor, size: int) -> list[float]:
    """For each question the chance that `size` completions all earn the same: [P, K] rewards → P values.

    Unbiased: the share of all subsets of that size, Σ over reward values v of C(n_v, G) / C(K, G). With two values it
    estimates (1 − p)^G + p^G.
    """
    count = rewards_PK.shape[1]
    every = math.comb(count, size)
    return [sum(math.comb(n, size) for n in Counter(row).values()) / every for row in rewards_PK.tolist()]


def observed_dead(rewards_PK: Tensor, size: int) -> list[float]:
    """For each question the share of dead ones among its disjoint groups of `size`: [P, K] rewards → P values."""
    groups = rewards_PK.shape[1] // size
    return [(~is_live(row[: groups * size].view(groups, size))).double().mean().item() for row in rewards_PK.unbind(0)]


@torch.no_grad()
def reach_of(
    policy: Policy, prompts: Sequence[Sequence[int]], questions: Sequence[Question], top: int, temperature: float,
    seed: int,
) -> Reach:  # fmt: skip
    """Log-probability and rank of every gold token under the policy, the gold tokens before it given."""
    every: list[tuple[float, float]] = []  # per question: mean log-probability, share out of reach
    answers: list[tuple[float, float]] = []
    was_training = policy.model.training
    policy.model.eval()
    for prompt, question in zip(prompts, questions, strict=True):
        gold = policy.encode_completion(question.gold)
        tokens = torch.tensor([[*prompt, *gold]], device=policy.model.device)
        logits = policy.model(tokens, use_cache=False).logits[0, len(prompt) - 1 : -1].float().cpu()
        logits = logits / (temperature or 1.0)
        chosen = logits.gather(1, torch.tensor(gold)[:, None])
        logprobs = (chosen[:, 0] - logits.logsumexp(-1)).tolist()
        outside = ((logits > chosen).sum(dim=1) >= top).double().tolist()
        start, end = (
            len(policy.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in _around_the_answer(question)
        )
        for pairs, part in ((every, slice(0, len(gold))), (answers, slice(start, max(end, start + 1)))):
            values, missed = logprobs[part], outside[part]
            pairs.append((sum(values) / len(values), sum(missed) / len(missed)))
    policy.model.train(was_training)

    def mean(pairs: list[tuple[float, float]]) -> float:
        return round(sum(value for value, _ in pairs) / len(pairs), 6)

    return Reach(
        log_probability=mean(every),
        out_of_reach=over([missed for _, missed in every], seed),
        answer_log_probability=mean(answers),
        answer_out_of_reach=over([missed for _, missed in answers], seed),
    )


def _around_the_answer(question: Question) -> tuple[str, str]:
    """The gold completion up to its answer, and up to the answer's end."""
    said = parse(question.gold, question.form)
    return question.gold[: said.answer_at], question.gold[: said.answer_at + len(said.answer or "")]


def recommend(dead: Mapping[str, Mapping[int, Dead]], reach: Reach, group_size: int, params: Probe) -> Recommendation:
    """Which curriculum the findings speak for.

    Strict is judged by the groups that hold both right and wrong completions: a group that is live only because some
    completions are malformed teaches the form, not the answer.
    """
    strict = 1 - dead[SUCCESS][group_size].predicted.mean
    lenient = 1 - dead[params.lenient][group_size].predicted.mean
    missed = reach.answer_out_of_reach.mean
    if strict >= params.enough_live:
        return Recommendation(
            choice="start strict",
            text=f"start strict: {strict:.0%} of groups of {group_size} hold both right and wrong completions "
            f"(enough from {params.enough_live:.0%} on)",
        )
    if missed > params.out_of_reach:
        return Recommendation(
            choice="more pre-training",
            text=f"the base cannot say it: {missed:.0%} of the right answers' tokens are outside the {params.top} "
            f"likeliest (at most {params.out_of_reach:.0%}). What is never sampled is never learnt: more pre-training "
            "data, not more RL",
        )
    if lenient >= params.enough_live:
        return Recommendation(
            choice="start lenient",
            text=f"start lenient: {strict:.0%} of groups of {group_size} hold both right and wrong completions, and "
            f"{lenient:.0%} are live under {params.lenient} (enough from {params.enough_live:.0%} on)",
        )
    return Recommendation(
        choice="warm up longer",
        text=f"warm up longer: only {lenient:.0%} of groups of {group_size} are live under {params.lenient} (enough "
        f"from {params.enough_live:.0%} on), and {strict:.0%} hold both right and wrong completions. Where the two are "
        "alike, partial credit has no slope on these questions: `upaya audit` says what would have one",
    )

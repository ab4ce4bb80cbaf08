"""The probe: what a policy could learn from before any GRPO, and which curriculum that recommends.

It samples k completions for each of n validation questions and asks three things. How often is one right (pass@k)?
How many groups of G would be dead under each regime? And are the right answers within the policy's reach at all: RL
makes likelier what is sampled, so a token that is never sampled is never learnt.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import torch
from rich.table import Table
from torch import Tensor

from upaya.answers import ANSWER, END_ANSWER
from upaya.evaluation import interval, pass_at_k
from upaya.files import read_json, write_json
from upaya.grpo.advantages import is_live
from upaya.params import Probe, load_curricula, load_model_file
from upaya.policy import Policy, load
from upaya.progress import console
from upaya.questions import Question, read
from upaya.rewards.regimes import Regime
from upaya.rewards.schedules import load_regimes
from upaya.rewards.scoring import Scores, score
from upaya.sampling import SamplingParams, sample
from upaya.validation import Declared, validated

REPORTS = Path("reports/probe")
POLICIES, QUESTIONS = Path("policies"), Path("questions")
SUCCESS = "success"  # in a report's groups: live is what holds both right and wrong completions
RESAMPLES = 2000

Choice = Literal["start strict", "start lenient", "warm up longer", "more pre-training"]


class Estimate(Declared):
    """A mean over questions with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float], seed: int) -> Self:
        low, high = interval(values, RESAMPLES, seed)
        return cls(mean=round(sum(values) / len(values), 6), low=round(low, 6), high=round(high, 6))

    def __str__(self) -> str:
        return f"{self.mean:.1%} [{self.low:.1%}, {self.high:.1%}]"


class Dead(Declared):
    """Share of dead groups of one size under one regime: predicted from one draw of samples, seen in another."""

    predicted: Estimate
    observed: Estimate


class Reach(Declared):
    """How far the right answers are from what the policy says, with the gold completion given token by token.

    `log_probability` is per token in nats; `out_of_reach` is the share of tokens outside the sampler's likeliest `top`.
    `answer` counts the tokens between the answer tags only: what is left when the form is given.
    """

    log_probability: float
    out_of_reach: Estimate
    answer_log_probability: float
    answer_out_of_reach: Estimate


class Recommendation(Declared):
    choice: Choice
    text: str


class Report(Declared):
    """What a probe found. `dead` maps regime → group size → shares; beside the regimes stands `success`."""

    policy: str
    questions: int
    samples: int
    group_size: int
    format_rate: Estimate
    pass_at: dict[int, Estimate]
    dead: dict[str, dict[int, Dead]]
    reach: Reach
    recommendation: Recommendation

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        return validated(cls, read_json(path), str(path))


def report_path(policy: str) -> Path:
    return REPORTS / f"{policy}.json"


def probe(
    name: str,
    policy: Policy,
    questions: Sequence[Question],
    regimes: Mapping[str, Regime],
    params: Probe,
    sampling: SamplingParams,
    group_size: int,
    seed: int,
) -> Report:
    """Probe a policy on the first `params.questions` of the questions.

    Args:
        group_size: of the training that is being decided on; always among the sizes reported.
    """
    asked = list(questions[: params.questions])
    prompts = [policy.encode_prompt(question.prompt) for question in asked]

    def draw(step: int) -> Scores:
        rollouts = sample(
            policy, prompts, params.samples, sampling, seed=seed, step=step, prompt_indices=range(len(asked))
        )
        return score(rollouts.texts(policy), asked, regimes)

    first, second = draw(0), draw(1)  # the prediction is checked on completions that it was not made from
    sizes = sorted({*params.group_sizes, group_size})
    outcomes = {
        **{regime: (first.rewards_PG[regime], second.rewards_PG[regime]) for regime in regimes},
        SUCCESS: (first.exact_PG.double(), second.exact_PG.double()),
    }
    dead = {
        regime: {
            size: Dead(
                predicted=Estimate.over(predicted_dead(seen, size), seed),
                observed=Estimate.over(observed_dead(fresh, size), seed),
            )
            for size in sizes
        }
        for regime, (seen, fresh) in outcomes.items()
    }
    right = first.exact_PG.sum(dim=1).tolist()
    ks = [2**power for power in range(int(math.log2(params.samples)) + 1)]
    reach = reach_of(policy, prompts, asked, params.top, sampling.temperature, seed)
    return Report(
        policy=name,
        questions=len(asked),
        samples=params.samples,
        group_size=group_size,
        format_rate=Estimate.over(first.well_formed_PG.double().mean(dim=1).tolist(), seed),
        pass_at={k: Estimate.over([pass_at_k(params.samples, c, k) for c in right], seed) for k in ks},
        dead=dead,
        reach=reach,
        recommendation=recommend(dead, reach, group_size, params),
    )


def probe_declared(name: str, source: str | Path | None = None) -> Report:
    """Probe as params/ say: a policy of the tree by its name, or with `source` any model by its folder or hub name."""
    regimes = load_regimes()
    curricula = load_curricula(regimes)
    questions = read(QUESTIONS, "validation", curricula.questions)
    handling = load_model_file(curricula.model)
    policy = load(source, None) if source else load(POLICIES / name, handling)
    policy.system_prompt = handling.system_prompt
    return probe(
        name, policy, questions, regimes.plain, curricula.probe, curricula.sampling, curricula.grpo.group_size,
        curricula.seed,
    )  # fmt: skip


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
            len(policy.tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in (question.gold.split(ANSWER)[0] + ANSWER, question.gold.split(END_ANSWER)[0])
        )
        for found, part in ((every, slice(0, len(gold))), (answers, slice(start, max(end, start + 1)))):
            values, missed = logprobs[part], outside[part]
            found.append((sum(values) / len(values), sum(missed) / len(missed)))
    policy.model.train(was_training)

    def mean(found: list[tuple[float, float]]) -> float:
        return round(sum(value for value, _ in found) / len(found), 6)

    return Reach(
        log_probability=mean(every),
        out_of_reach=Estimate.over([missed for _, missed in every], seed),
        answer_log_probability=mean(answers),
        answer_out_of_reach=Estimate.over([missed for _, missed in answers], seed),
    )


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
        f"from {params.enough_live:.0%} on)",
    )


def show(report: Report) -> None:
    """Print a report."""
    table = Table(title=f"probe of {report.policy}: {report.questions} questions, {report.samples} samples each, twice")
    table.add_column("dead groups under")
    sizes = list(next(iter(report.dead.values())))
    for size in sizes:
        table.add_column(f"G = {size}: predicted\nobserved")
    for regime, by_size in report.dead.items():
        name = "right or wrong only" if regime == SUCCESS else regime
        table.add_row(name, *(f"{by_size[size].predicted}\n{by_size[size].observed}" for size in sizes))
    console.print(table, soft_wrap=False)
    console.print("  ".join(f"pass@{k} {estimate}" for k, estimate in report.pass_at.items()))
    console.print(f"format rate {report.format_rate}")
    reach = report.reach
    console.print(
        f"reach: gold completion {reach.log_probability:.2f} nats a token, {reach.out_of_reach} of its tokens out of "
        f"reach; its answer {reach.answer_log_probability:.2f} nats a token, {reach.answer_out_of_reach} out of reach"
    )
    console.print(f"recommendation: {report.recommendation.text}")

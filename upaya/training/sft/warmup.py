"""Warm-up: SFT on completions as they should be, or only in their form, until sampled ones reach a score."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from upaya.corpus.questions import Question
from upaya.declared.regimes import Regime
from upaya.declared.sampling import SamplingParams
from upaya.declared.warmup import UntilScore, Warmup
from upaya.errors import UserError
from upaya.paths import CURRICULA
from upaya.policy.model import Policy
from upaya.rewards.scoring import score
from upaya.sampling.philox import Stream
from upaya.training.completions.logprobs import completion_logprobs
from upaya.training.completions.measures import measure
from upaya.training.completions.micro_batches import micro_batches
from upaya.training.completions.order import prompt_order
from upaya.training.completions.packing import length_mask
from upaya.training.completions.rollouts import roll_out
from upaya.training.sft.supervised import Plan, train_supervised
from upaya.training.steps.engine import engine_for
from upaya.training.steps.run import Run


def warm_up(
    policy: Policy,
    questions: Sequence[Question],
    validation: Sequence[Question],
    params: Warmup,
    sampling: SamplingParams,
    regimes: Mapping[str, Regime],
    run: Run,
) -> int:
    """SFT on question → completion, loss on the completion's tokens only; returns the steps taken.

    Stops when sampled completions of validation questions reach `until.score` of the regime's maximum: models that
    took equal numbers of steps differ much over seeds, models of equal score less.

    Args:
        regimes: those that the sampled completions are scored under; `until.regime` among them.

    Raises UserError where answers are to be drawn and a question does not say what its items ask for.
    """
    if params.answers == "drawn":
        questions = with_drawn_answers(questions, run.seed, params.consistent)
    engine = engine_for(policy, run.zero, **params.optimiser.model_dump())
    losses = _Losses(policy, questions, params, run.seed)
    until = params.until
    asked = list(validation[: until.questions])
    prompts = [policy.encode_prompt(question.prompt) for question in asked]

    def rate(step: int) -> float:
        return params.schedule.at(step, params.max_steps)

    def stop(step: int, record: dict[str, Any]) -> bool:
        """Measure every so often, adding what was found to the step's record."""
        if step % until.every and step != params.max_steps:
            return False
        rollouts = roll_out(
            engine, prompts, until.samples, sampling, seed=run.seed, step=step, stream=Stream.VALIDATION
        )
        scores = score(rollouts.texts(policy), asked, regimes)
        share = _share(scores.rewards_PG[until.regime], regimes, until)
        found = measure(rollouts, scores, asked)
        record["validation"] = {"score": share, **found}
        return until.is_reached(share, found["skills"]) or step == params.max_steps

    return train_supervised(
        policy, engine, Plan(losses.at, rate, stop, losses.tokens, params.max_steps, until.every), run
    )


def with_drawn_answers(questions: Sequence[Question], seed: int, consistent: float = 0.0) -> list[Question]:
    """The questions with every item of the answer drawn from what may be said there, all of it alike likely: the
    alternatives that questions offer for the item's skill, and the right items of all of them for it.

    Args:
        consistent: the chance that an item is what was drawn once for its skill and the question's reasoning.

    Raises UserError where a question does not say what its items ask for.
    """
    sayable: dict[str, set[str]] = defaultdict(set)
    for question in questions:
        if not question.skills or not isinstance(question.answer, list):
            raise UserError(
                f"{CURRICULA}: key 'warmup.answers': 'drawn' needs questions that name a skill for each item of the "
                f"answer; {question.id}, of kind {question.kind}, does not. Leave its kind out of warmup.questions, or "
                "use 'right'"
            )
        for place, skill in enumerate(question.skills):
            sayable[skill] |= {question.answer[place], *question.choices[place]}
    sorted_ones = {skill: sorted(items) for skill, items in sayable.items()}  # a set's order is no order

    def drawn(question: Question) -> list[str]:
        rng, said = random.Random(f"{seed}/{question.id}"), []
        for skill in question.skills:
            always = random.Random(f"{seed}/{question.reasoning}/{skill}") if rng.random() < consistent else rng
            said.append(always.choice(sorted_ones[skill]))
        return said

    return [question.model_copy(update={"answer": drawn(question)}) for question in questions]


def _share(rewards_PG: Tensor, regimes: Mapping[str, Regime], until: UntilScore) -> float:
    """The mean reward as a share of its regime's maximum."""
    return rewards_PG.mean().item() / regimes[until.regime].maximum


class _Losses:
    """The negative log-likelihood of the completions shown, per token of a step's whole batch."""

    def __init__(self, policy: Policy, questions: Sequence[Question], params: Warmup, seed: int) -> None:
        self.policy, self.params, self.seed, self.count = policy, params, seed, len(questions)
        # Encoded when a step asks for them: most questions never are, and encoding all would take seconds.
        self.prompt = cache(lambda i: policy.encode_prompt(questions[i].prompt))
        self.shown = cache(lambda i: policy.encode_completion(questions[i].gold))

    def at(self, step: int) -> Iterator[Tensor]:
        """This process's share of a step, micro-batch by micro-batch."""
        chosen, said = self._shown_at(step)
        places = range(len(chosen))
        asked = [len(self.prompt(i)) for i in chosen]
        for batch, counts in micro_batches(places, said, places, asked, self.params.tokens_per_micro_batch):
            yield self._of([chosen[place] for place in sorted(batch)]) * counts / sum(said)

    def tokens(self, step: int) -> int:
        """Of the completions of a step's whole batch."""
        return sum(self._shown_at(step)[1])

    def _shown_at(self, step: int) -> tuple[list[int], list[int]]:
        """The questions of a step, and how many tokens their completions have."""
        chosen = prompt_order(self.count, step, self.params.batch_size, self.seed)
        return chosen, [len(self.shown(i)) for i in chosen]

    def _of(self, questions: Sequence[int]) -> Tensor:
        """The sum over the tokens of some questions' completions."""
        shown = [self.shown(i) for i in questions]
        lengths = torch.tensor([len(each) for each in shown])
        longest = int(lengths.max())
        tokens = torch.tensor([each + [self.policy.pad_id] * (longest - len(each)) for each in shown])
        prompts = [self.prompt(i) for i in questions]
        logprobs, _ = completion_logprobs(self.policy, prompts, torch.arange(len(shown)), tokens, lengths)
        return -(logprobs * length_mask(lengths, longest)).sum()

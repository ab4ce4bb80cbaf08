"""Success on validation questions while training goes on: what is only learnt by heart stays behind in it."""

from collections.abc import Sequence
from functools import cache

from upaya.corpus.questions import Question
from upaya.declared.grpo import Validation
from upaya.declared.sampling import SamplingParams
from upaya.policy.model import Policy
from upaya.rewards.scoring import score
from upaya.sampling.philox import Stream
from upaya.training.completions.order import prompt_order
from upaya.training.completions.rollouts import roll_out
from upaya.training.grpo.hints import beginning, encoded
from upaya.training.steps.engine import Engine


class Measurement:
    """What is measured follows from the step alone: a checkpoint holds nothing of it.

    Args:
        declared: None where nothing is to be measured.
        questions: none where nothing can be measured.
    """

    def __init__(
        self,
        policy: Policy,
        declared: Validation | None,
        questions: Sequence[Question],
        sampling: SamplingParams,
        seed: int,
    ) -> None:
        self.policy, self.declared, self.questions = policy, declared if questions else None, questions
        self.sampling, self.seed = sampling, seed
        self.prompt = cache(lambda i: policy.encode_prompt(questions[i].prompt))

    def success(self, engine: Engine, step: int, hinted: int) -> float | None:
        """The share of exactly right completions, the same in every process; None at a step without a measurement.

        Args:
            step: counted from 1 since the warm-up.
            hinted: how many items are given of the right answers, for the training prompts' are given too.
        """
        if self.declared is None or step % self.declared.every:
            return None
        count = min(self.declared.questions, len(self.questions))
        chosen = prompt_order(len(self.questions), step // self.declared.every - 1, count, self.seed)
        asked = [self.questions[i] for i in chosen]
        begun = [self.policy.after_opening(beginning(question, hinted)) for question in asked]
        rollouts = roll_out(
            engine, [self.prompt(i) + encoded(self.policy, begin) for i, begin in zip(chosen, begun, strict=True)],
            self.declared.samples, self.sampling, seed=self.seed, step=step, stream=Stream.GAP,
        )  # fmt: skip
        return score(rollouts.texts(self.policy, begun), asked, {}).exact_PG.double().mean().item()

"""Which questions a step asks: all alike, or by what became of them when they were last asked."""

from collections.abc import Sequence
from typing import Any

from upaya.declared.grpo import Pools, Sampler
from upaya.rewards.groups import is_live
from upaya.rewards.scoring import Scores
from upaya.sampling.philox import Stream, uniforms
from upaya.training.completions.order import question_at


class Draw:
    """Questions in the order of the seeded permutations, of which pools pass some over. Holds what a checkpoint needs.

    Args:
        place: where in that order to begin: a stage goes on where its parent would have.
    """

    def __init__(self, sampler: Sampler, count: int, seed: int, place: int) -> None:
        self.sampler, self.count, self.seed, self.place = sampler, count, seed, place
        self.pool: dict[int, str] = {}  # of the questions that are not drawn each time

    def next(self, prompts: int) -> list[int]:
        """The questions of the next step."""
        chosen: list[int] = []
        passed_over = 0
        while len(chosen) < prompts:
            question = question_at(self.place, self.count, self.seed)
            # Where nearly all are passed over, whatever comes after a whole round is taken.
            if passed_over >= self.count or self._is_taken(question):
                chosen.append(question)
                passed_over = 0
            else:
                passed_over += 1
            self.place += 1
        return chosen

    def saw(self, questions: Sequence[int], scores: Scores) -> None:
        """Put each question into the pool of its group."""
        if not isinstance(self.sampler, Pools):
            return
        for row, question in enumerate(questions):
            self.pool.pop(question, None)
            if bool(scores.exact_PG[row].all()):
                self.pool[question] = "solved"
            elif not any(bool(is_live(rewards_PG[row : row + 1])) for rewards_PG in scores.rewards_PG.values()):
                self.pool[question] = "hopeless"

    def _is_taken(self, question: int) -> bool:
        if question not in self.pool:
            return True
        chance = float(getattr(self.sampler, self.pool[question]))
        return bool(uniforms(self.seed, self.place, [question], 1, 1, Stream.POOLS)[0, 0, 0] < chance)

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place, "pool": sorted(self.pool.items())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place, self.pool = state["place"], dict(state["pool"])

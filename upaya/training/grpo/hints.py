"""Hints: the first items of the right answer are given, ever fewer as success rises."""

from typing import Any

from upaya.corpus.answers import SEPARATOR, parse
from upaya.corpus.questions import Question
from upaya.declared.regimes import Hints
from upaya.policy.model import Policy
from upaya.training.grpo.switching import RunningStatistics


def beginning(question: Question, items: int) -> str:
    """The gold completion up to its first items, of which at least one is left to say; "" where none is given."""
    if not isinstance(question.answer, list) or not (items := min(items, len(question.answer) - 1)):
        return ""
    before = question.gold[: parse(question.gold, question.form).answer_at]
    return before + SEPARATOR.join(question.answer[:items]) + SEPARATOR


def encoded(policy: Policy, begun: str) -> list[int]:
    """The tokens that a completion is begun with."""
    return list(policy.tokenizer(begun, add_special_tokens=False)["input_ids"]) if begun else []


class Giver:
    """How many items are given at each step. Holds what a checkpoint needs."""

    def __init__(self, hints: Hints) -> None:
        self.hints = hints
        self.items = hints.items

    def next(self, statistics: RunningStatistics) -> int:
        """The items of the next step: fewer as success rises, and never more again, for with fewer it falls."""
        success = statistics.mean("success", self.hints.window) or 0.0
        left = max(0.0, 1 - success / self.hints.gone_at)
        self.items = min(self.items, round(self.hints.items * left))
        return self.items

    def state_dict(self) -> dict[str, Any]:
        return {"items": self.items}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.items = state["items"]

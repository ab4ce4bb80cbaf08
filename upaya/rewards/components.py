"""Reward components: pure functions from (parsed completion, question) to [0, 1].

Each says what it measures and how a policy can game it. Regimes (params/regimes.yaml) name and weigh them.
"""

import difflib
from collections import Counter
from collections.abc import Callable

from upaya.answers import ANSWER, END_ANSWER, END_THINK, THINK, Completion, is_exact, items, normalised, number, render
from upaya.questions import Question

Component = Callable[[Completion, Question], float]
# A right answer is far shorter than this; what lies beyond is not read, so that no completion makes scoring slow.
LONGEST_ANSWER = 2000


def format_parts(completion: Completion, question: Question) -> float:
    """Share of the form that is there: each of the four tags exactly once, and the whole well-formed; in fifths.

    Gamed by the four tags around nothing much: it says nothing of the answer, so it deserves a small weight.
    """
    tags = Counter(completion.tags)
    once = sum(tags[tag] == 1 for tag in (THINK, END_THINK, ANSWER, END_ANSWER))
    return (once + completion.well_formed) / 5


def exact(completion: Completion, question: Question) -> float:
    """1 for exactly the right answer in exactly the right form, else 0: the strict measure.

    Gamed only by guessing: few possible answers (yes or no) make guesses pay.
    """
    return float(completion.well_formed and is_exact(_answer(completion), question.answer, question.answer_type))


def positions(completion: Completion, question: Question) -> float:
    """Items at their right position, over the longer of the two lists; for a scalar, right or not.

    Extra items lower it, so listing everything does not pay. Gamed by the most frequent item at each position.
    """
    if not isinstance(question.answer, list):
        return float(is_exact(_answer(completion), question.answer, question.answer_type))
    said, right = _items(completion), [normalised(item) for item in question.answer]
    return sum(a == b for a, b in zip(said, right, strict=False)) / max(len(said), len(right))


def overlap(completion: Completion, question: Question) -> float:
    """F1 of the items said and the right ones, as multisets; for a scalar, right or not.

    Blind to order: a policy that is trained on it loses the order of ordered lists.
    """
    if not isinstance(question.answer, list):
        return float(is_exact(_answer(completion), question.answer, question.answer_type))
    said, right = Counter(_items(completion)), Counter(normalised(item) for item in question.answer)
    return 2 * (said & right).total() / max(1, said.total() + right.total())


def similarity(completion: Completion, question: Question) -> float:
    """Similarity of the answer's characters to the right answer's (matching blocks, 0 to 1).

    Gamed by characters that most answers share, and blind to what a small difference means (有 and 無 differ by one).
    """
    said = normalised(_answer(completion) or "")
    return difflib.SequenceMatcher(None, said, normalised(render(question.answer)), autojunk=False).ratio()


def closeness(completion: Completion, question: Question) -> float:
    """For a number, 1 / (1 + |difference|); for anything else, right or not.

    Gamed by a number in the middle of the usual ones: a policy that is trained on it stays at near misses.
    """
    if question.answer_type != "number":
        return float(is_exact(_answer(completion), question.answer, question.answer_type))
    value = number(_answer(completion) or "")
    assert isinstance(question.answer, int)
    return 0.0 if value is None else 1 / (1 + abs(value - question.answer))


def _answer(completion: Completion) -> str | None:
    return completion.answer[:LONGEST_ANSWER] if completion.answer else None


def _items(completion: Completion) -> list[str]:
    answer = _answer(completion)
    return items(answer) if answer else []


COMPONENTS: dict[str, Component] = {
    "format": format_parts,
    "exact": exact,
    "positions": positions,
    "overlap": overlap,
    "similarity": similarity,
    "closeness": closeness,
}

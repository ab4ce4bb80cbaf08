"""Reward components: pure functions from (parsed completion, question) to [0, 1].

Each says what it measures and how a policy can game it. Regimes (params/regimes.yaml) name and weigh them. A name with
dots is a function of the user's own: `components.mine.near_enough` is `near_enough` in components/mine.py.
"""

import math
from collections import Counter
from fractions import Fraction
from functools import cache
from itertools import chain

from rapidfuzz.distance import LCSseq, Levenshtein

from upaya.corpus.answers import (
    SEPARATOR,
    Completion,
    items,
    normalised,
    render,
)
from upaya.corpus.matching import as_written, comparable, is_exact, right_forms, right_number
from upaya.corpus.numerals import number
from upaya.corpus.questions import Question
from upaya.corpus.script import Converter
from upaya.errors import nearest
from upaya.rewards.items import (
    ItemValue,
    equal_item,
    item_values,
    offered_item,
    resembling_item,
    right_items,
    said_items,
    shared_alternatives,
)
from upaya.rewards.own import Component, own_component

LISTS_AND_WORDS = ("term", "ordered_list", "set", "boolean")  # of which characters are compared as they are normalised
NEARLY = 1e-6  # how far the nearest wrong number stays from right


def format_parts(completion: Completion, question: Question) -> float:
    """Share of the form that is there, as the question wants it (upaya/corpus/answers.py): of the tags in fifths, each
    exactly once, and the whole well-formed; of a box in thirds, of a last line in halves.

    Gamed by the form around nothing much: it says nothing of the answer, so it deserves a small weight.
    """
    return completion.form


def exact(completion: Completion, question: Question) -> float:
    """1 for exactly the right answer in exactly the right form, else 0: the strict measure.

    Gamed only by guessing: few possible answers (yes or no) make guesses pay.
    """
    return float(completion.well_formed and _right(completion, question))


def positions(completion: Completion, question: Question) -> float:
    """Items at their right position, over the longer of the two lists; for a set, items wherever they stand; for a
    scalar, right or not.

    Extra items lower it, so listing everything does not pay. Gamed by the most frequent item at each position.
    """
    return _mean_of_items(equal_item, completion, question)


def offered(completion: Completion, question: Question) -> float:
    """As `positions`, for items that answer what was asked, rightly or not: made of the alternatives that the question
    offers in that place.

    Gamed by naming the first alternative everywhere: a first rung, so it deserves a small weight.
    """
    return _mean_of_items(offered_item, completion, question)


def shared(completion: Completion, question: Question) -> float:
    """As `positions`, an item counting by the alternatives (joined by 及) that it shares with the right one, over those
    that either names.

    Gamed by naming every alternative of a place, which has a half where two of four are right.
    """
    return _mean_of_items(shared_alternatives, completion, question)


def resemblance(completion: Completion, question: Question) -> float:
    """As `positions`, an item counting by the edit similarity of its characters to the right one's.

    Gamed as `similarity` is, though only item by item.
    """
    return _mean_of_items(resembling_item, completion, question)


def overlap(completion: Completion, question: Question) -> float:
    """F1 of the items said and the right ones, as multisets; for a scalar, right or not.

    Blind to order: a policy that is trained on it alone loses the order of ordered lists.
    """
    if not isinstance(question.answer, list):
        return float(_right(completion, question))
    said, right = Counter(_items(completion, question)), Counter(right_items(question))
    return 2 * (said & right).total() / max(1, said.total() + right.total())


def order(completion: Completion, question: Question) -> float:
    """Longest common subsequence of the items said and the right ones, over the longer of the two lists; for a set, the
    same as `positions`; for a scalar, right or not.

    Forgives what is left out or put between: a policy that is trained on it alone skips the members it is unsure of.
    """
    if not isinstance(question.answer, list) or question.answer_type == "set":
        return positions(completion, question)
    said, right = _items(completion, question), right_items(question)
    return LCSseq.similarity(said, right) / max(len(said), len(right))


def similarity(completion: Completion, question: Question) -> float:
    """Edit similarity of the answer's characters to the right answer's: 1 − Levenshtein distance / the longer length.
    Free text is compared word forms aside, JSON by its value written one way; 1 for whatever counts as right.

    Gamed by characters that most answers share, and blind to what a small difference means (有 and 無 differ by one).
    """
    said = completion.answer or ""
    if question.answer_type in LISTS_AND_WORDS:
        if question.accepted:
            said = SEPARATOR.join(_items(completion, question))
        return Levenshtein.normalized_similarity(normalised(said), normalised(render(question.answer)))
    if is_exact(said, question):
        return 1.0
    forms = [comparable(text, question.answer_type) for text in (said, render(question.answer))]
    most = 1 - 1 / (2 + max(map(len, forms)))  # 4² has the characters of 42, once they are of one width
    return min(most, Levenshtein.normalized_similarity(*forms))


def closeness(completion: Completion, question: Question) -> float:
    """For a number, 1 / (1 + d / s), d being how far it is from the right one (or from the edge of the tolerance) and s
    a tenth of the right one's size, for a whole number at least 1; for anything else, right or not.

    So that it has a slope at every scale: among counts a step is a step, as in 1 / (1 + d), which it is up to 10; of a
    million, a thousand more is near, and of 0.5 another half is far. Half is left where said and right are s apart.
    It falls strictly with the distance, and what is not right has at most 1 − 10⁻⁶. Computed in rationals.

    Gamed by a number in the middle of the usual ones: a policy that is trained on it stays at near misses.
    """
    if question.answer_type != "number" or is_exact(completion.answer, question):
        return float(_right(completion, question))
    value, right = number(completion.answer or "", question.unit), right_number(question)
    if value is None or right is None:
        return 0.0
    distance = abs(Fraction(value) - right) - as_written(question.tolerance)
    scale = abs(right) if isinstance(right, Fraction) else max(10, abs(right))
    return (1 - NEARLY) * float(Fraction(scale) / (scale + 10 * distance))


def length(completion: Completion, question: Question) -> float:
    """Length discipline: 1 for an answer no longer than the right one, then falling as right length / length; 0 without
    an answer.

    Gamed by saying little: any one character has it all. It only holds back components that extras do not lower.
    """
    said = len(completion.answer or "")
    return min(1.0, len(render(question.answer)) / said) if said else 0.0


def script(completion: Completion, question: Question) -> float:
    """Script consistency: share of the answer's characters that OpenCC leaves as they are, so that are not Traditional;
    0 without an answer. Characters that the right answer itself has are never counted against it.

    Gamed by any text in Simplified characters, Latin letters or digits.
    """
    said = completion.answer or ""
    simplified = _converter().simplify(said)
    right = set(render(question.answer)).union(*chain.from_iterable(question.accepted))
    kept = sum(old == new or old in right for old, new in zip(said, simplified, strict=False))
    return kept / len(said) if said else 0.0


def repetition(completion: Completion, question: Question) -> float:
    """Freedom from repetition: share of the answer's items that are no surplus copy of another; 0 without an answer. An
    item may stand as often as the right answer has it.

    Gamed by any list of different items.
    """
    said = Counter(_items(completion, question))
    allowed = Counter(right_items(question)) if isinstance(question.answer, list) else Counter()
    surplus = sum(max(0, count - max(1, allowed[item])) for item, count in said.items())
    return 1 - surplus / said.total() if said else 0.0


COMPONENTS: dict[str, Component] = {
    "format": format_parts,
    "exact": exact,
    "positions": positions,
    "offered": offered,
    "shared": shared,
    "resemblance": resemblance,
    "overlap": overlap,
    "order": order,
    "similarity": similarity,
    "closeness": closeness,
    "length": length,
    "script": script,
    "repetition": repetition,
}

# Those that know what each item is worth, for regimes that give credit item by item.
BY_ITEM: dict[str, ItemValue] = {
    "positions": equal_item,
    "offered": offered_item,
    "shared": shared_alternatives,
    "resemblance": resembling_item,
}


def component(name: str) -> Component:
    """A component by its name here, or by the dotted path of a function of the user's own.

    Raises ValueError, which a declaration's validation turns into a message with the key.
    """
    if name in COMPONENTS:
        return COMPONENTS[name]
    if "." not in name:
        raise ValueError(f"unknown component {name!r}; {nearest(name, COMPONENTS)}; one of your own has a dotted path")
    return own_component(name)


@cache
def _converter() -> Converter:
    return Converter()


def _right(completion: Completion, question: Question) -> bool:
    return is_exact(completion.answer, question)


def _mean_of_items(value: ItemValue, completion: Completion, question: Question) -> float:
    """What the items are worth together, over the longer of the said and the right list."""
    said = said_items(completion, question)
    return math.fsum(item_values(value, said, completion, question)) / max(len(said), len(right_items(question)))


def _items(completion: Completion, question: Question) -> list[str]:
    return right_forms(items(completion.answer), question) if completion.answer else []

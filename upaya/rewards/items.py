"""The items of a written answer: where each stands in the completion, and what right item it is compared with.

A scalar answer is one item. A list's items are compared place by place; a set's each with the right item it equals, and
those that equal none with the right items that are left, in order.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from upaya.corpus.answers import Completion, Span, item_spans, normalised, render
from upaya.corpus.matching import as_right_item, comparable, is_exact, right_forms
from upaya.corpus.questions import Question

JOIN = "及"  # between the alternatives of one value


class Item(NamedTuple):
    """An item that a completion says.

    Attributes:
        said: its text, as its type of answer is compared; a form that is accepted for a right item is that item.
        slot: the place, among the right items, of the one it is compared with; None for one too many.
        span: its characters in the completion's text.
    """

    said: str
    slot: int | None
    span: Span


def said_items(completion: Completion, question: Question) -> list[Item]:
    """The items of a completion's answer in the order in which they stand; none without an answer."""
    if not completion.answer:
        return []
    if not isinstance(question.answer, list):
        start = completion.answer_at
        said_form = as_right_item(comparable(completion.answer, question.answer_type), question)
        return [Item(said_form, 0, Span(start, start + len(completion.answer)))]
    spans = item_spans(completion.answer)
    said = right_forms([normalised(completion.answer[span.start : span.end]) for span in spans], question)
    right = right_items(question)
    slots = _matched(said, right) if question.answer_type == "set" else _in_order(said, right)
    return [
        Item(text, slot, Span(completion.answer_at + span.start, completion.answer_at + span.end))
        for text, slot, span in zip(said, slots, spans, strict=True)
    ]


def right_items(question: Question) -> list[str]:
    """The right answer's items, as they are compared."""
    if isinstance(question.answer, list):
        return [normalised(item) for item in question.answer]
    return [comparable(render(question.answer), question.answer_type)]


def _in_order(said: Sequence[str], right: Sequence[str]) -> list[int | None]:
    return [place if place < len(right) else None for place in range(len(said))]


def _matched(said: Sequence[str], right: Sequence[str]) -> list[int | None]:
    left = list(range(len(right)))
    slots: list[int | None] = []
    for item in said:
        slot = next((place for place in left if right[place] == item), None)
        if slot is not None:
            left.remove(slot)
        slots.append(slot)
    return [left.pop(0) if slot is None and left else slot for slot in slots]


# --- what an item is worth --------------------------------------------------------------------------------------------

ItemValue = Callable[[str, str, Sequence[str]], float]  # (said, right, the alternatives asked about) → [0, 1]


def equal_item(said: str, right: str, choices: Sequence[str]) -> float:
    """1 for the right item."""
    return float(said == right)


def offered_item(said: str, right: str, choices: Sequence[str]) -> float:
    """1 for an answer to what was asked at all: the right item, or one made of the alternatives that the question
    offers in this place."""
    parts = said.split(JOIN)
    return float(said == right or (bool(choices) and all(part in choices for part in parts)))


def shared_alternatives(said: str, right: str, choices: Sequence[str]) -> float:
    """The share of alternatives that both items name, among those that either names (Jaccard)."""
    a, b = set(said.split(JOIN)), set(right.split(JOIN))
    return len(a & b) / len(a | b)


def resembling_item(said: str, right: str, choices: Sequence[str]) -> float:
    """Edit similarity: 1 − Levenshtein distance / the longer length."""
    return Levenshtein.normalized_similarity(said, right)


def item_values(value: ItemValue, items: Sequence[Item], completion: Completion, question: Question) -> list[float]:
    """What each said item is worth; 0 for one too many."""
    if not isinstance(question.answer, list):
        if is_exact(completion.answer, question):
            return [1.0 for _ in items]  # a number has many spellings
        if question.answer_type in ("number", "boolean", "choice"):
            return [0.0 for _ in items]
    right = right_items(question)
    return [
        0.0 if item.slot is None else value(item.said, right[item.slot], _choices(question, item.slot))
        for item in items
    ]


def _choices(question: Question, slot: int) -> list[str]:
    return [normalised(choice) for choice in question.choices[slot]] if question.choices else []

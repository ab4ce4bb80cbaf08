"""Typed answers, and the one parser of completions. What is read as the right answer says upaya/corpus/matching.py."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

AnswerType = Literal["number", "term", "ordered_list", "set", "boolean", "choice", "text", "json", "math"]

# A number that is no whole number is the text that writes it ("0.1", "1/3"), for no float is a tenth or a third. JSON
# is its text too, a choice its letter.
Answer = bool | int | str | list[str]

ANSWER_TYPES: tuple[AnswerType, ...] = get_args(AnswerType)

PYTHON_TYPES: dict[AnswerType, tuple[type, ...]] = {
    "number": (int, str), "term": (str,), "ordered_list": (list,), "set": (list,), "boolean": (bool,), "choice": (str,),
    "text": (str,), "json": (str,), "math": (str,),
}  # fmt: skip

THINK, END_THINK, ANSWER, END_ANSWER = TAGS = ("<think>", "</think>", "<answer>", "</answer>")

_TAG = re.compile("|".join(TAGS))

SEPARATOR = "、"

_SEPARATORS = re.compile(r"[、，,;；\n]")


@dataclass(frozen=True)
class Completion:
    """A completion taken apart.

    Attributes:
        text: the completion as sampled.
        answer: what stands between the first <answer> and what closes it, stripped; None where none opens.
        answer_at: the place of its first character in the text.
        tags: the tags in the order in which they stand.
        outside: whether anything but white space stands outside the two pairs of tags (only for well-ordered tags).
    """

    text: str
    answer: str | None
    tags: tuple[str, ...]
    outside: bool
    answer_at: int = 0

    @property
    def well_formed(self) -> bool:
        """Exactly `<think>…</think><answer>…</answer>`: each tag once, in this order, an answer that is not empty."""
        return self.tags == TAGS and not self.outside and bool(self.answer)


def parse(text: str) -> Completion:
    """Take a completion apart. Takes any string, in time linear in its length."""
    marks = list(_TAG.finditer(text))
    tags = tuple(mark.group() for mark in marks)
    answer, answer_at = None, 0
    for position, mark in enumerate(marks):
        if mark.group() == ANSWER:
            end = marks[position + 1].start() if position + 1 < len(marks) else len(text)
            enclosed = text[mark.end() : end]
            answer = enclosed.strip()
            answer_at = mark.end() + len(enclosed) - len(enclosed.lstrip())
            break
    outside = False
    if tags == TAGS:
        think, end_think, opening, closing = marks
        outside = bool(
            (text[: think.start()] + text[end_think.end() : opening.start()] + text[closing.end() :]).strip()
        )
    return Completion(text, answer, tags, outside, answer_at)


def render(answer: Answer) -> str:
    """An answer as the text that stands between the answer tags."""
    if isinstance(answer, bool):
        return "是" if answer else "否"
    return SEPARATOR.join(answer) if isinstance(answer, list) else str(answer)


def gold_completion(answer: Answer, reasoning: str) -> str:
    """The completion that SFT teaches."""
    return f"{THINK}{reasoning}{END_THINK}{ANSWER}{render(answer)}{END_ANSWER}"


@lru_cache(maxsize=65536)  # a policy says the same few things over and over
def normalised(term: str) -> str:
    """A term as it is compared: one width of characters (NFKC), no white space, no closing full stop."""
    return "".join(unicodedata.normalize("NFKC", term).split()).strip("。.").lower()


def items(text: str) -> list[str]:
    """The items of a written list, normalised; empty ones stay, for 「甲、、乙」 is not 「甲、乙」."""
    return list(_items(text))


@lru_cache(maxsize=4096)  # asked of one completion under each regime
def _items(text: str) -> tuple[str, ...]:
    return tuple(normalised(part) for part in _SEPARATORS.split(text))


class Span(NamedTuple):
    """Characters of a text, from `start` to before `end`."""

    start: int
    end: int


def item_spans(text: str) -> list[Span]:
    """Where the items of a written list stand."""
    separators = [match.span() for match in _SEPARATORS.finditer(text)]
    starts, ends = [0, *(end for _, end in separators)], [*(start for start, _ in separators), len(text)]
    return [Span(start, end) for start, end in zip(starts, ends, strict=True)]

"""Typed answers, the one parser of completions, and exact matching. Every reward and the evaluation use these."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import cn2an

AnswerType = Literal["number", "term", "ordered_list", "set", "boolean"]

Answer = bool | int | str | list[str]

ANSWER_TYPES: tuple[AnswerType, ...] = ("number", "term", "ordered_list", "set", "boolean")

PYTHON_TYPES: dict[AnswerType, type] = {
    "number": int, "term": str, "ordered_list": list, "set": list, "boolean": bool,
}  # fmt: skip

THINK, END_THINK, ANSWER, END_ANSWER = TAGS = ("<think>", "</think>", "<answer>", "</answer>")

_TAG = re.compile("|".join(TAGS))

SEPARATOR = "、"

_SEPARATORS = re.compile(r"[、，,;；\n]")

_YES, _NO = {"是", "有", "对", "yes", "true"}, {"否", "不是", "非", "无", "没有", "不对", "no", "false"}


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


@lru_cache(maxsize=4096)
def number(text: str) -> int | None:
    """The whole number that a text says in digits or Chinese numerals, or None.

    At most 20 characters are read: no answer is longer, and the converters' time grows with the text.
    """
    text = normalised(text)
    if not 0 < len(text) <= 20:
        return None
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    try:
        value = cn2an.cn2an(text, "smart")
    except ValueError:
        return None
    return int(value) if value == int(value) else None


def is_exact(text: str | None, answer: Answer, answer_type: AnswerType) -> bool:
    """Whether an answer's text says exactly the right answer, compared by the answer's type."""
    if not text:
        return False
    if answer_type == "number":
        return number(text) == answer
    if answer_type == "boolean":
        return normalised(text) in (_YES if answer else _NO)
    if answer_type == "term":
        return normalised(text) == normalised(str(answer))
    assert isinstance(answer, list)
    said, right = items(text), [normalised(item) for item in answer]
    return said == right if answer_type == "ordered_list" else sorted(said) == sorted(right)

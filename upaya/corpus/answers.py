"""Typed answers, and the one parser of completions. What is read as the right answer says upaya/corpus/matching.py."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

AnswerType = Literal["number", "term", "ordered_list", "set", "boolean", "choice", "text", "json", "math"]

# A number that is no whole number is the text that writes it ("0.1", "1/3"), for no float is a tenth or a third. JSON
# is its text too, a choice its letter.
Answer = bool | int | str | list[str]

ANSWER_TYPES: tuple[AnswerType, ...] = get_args(AnswerType)
LISTS: tuple[AnswerType, ...] = ("ordered_list", "set")  # those that have items

THINK, END_THINK, ANSWER, END_ANSWER = TAGS = ("<think>", "</think>", "<answer>", "</answer>")

Form = Literal["tags", "boxed", "last line"]  # where a completion has its answer

_TAG = re.compile("|".join(TAGS))
_BOX, _BRACE = re.compile(r"\\boxed *\{"), re.compile("[{}]")
_LAST_LINE = re.compile(r"^[ \t]*\**(?:final answer|answer|答案)\** ?[:：]\**", re.IGNORECASE | re.MULTILINE)

SEPARATOR = "、"

SEPARATORS = re.compile(r"[、，,;；\n]")
_STEERING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>")


@dataclass(frozen=True)
class Completion:
    """A completion taken apart.

    Attributes:
        text: the completion as sampled.
        answer: what stands where the form has the answer, stripped; None where nothing opens that place.
        form: share of the form that is there, 1 where it is well-formed.
        answer_at: the place of the answer's first character in the text.
    """

    text: str
    answer: str | None
    form: float
    answer_at: int = 0

    @property
    def well_formed(self) -> bool:
        return self.form == 1


def parse(text: str, form: Form = "tags") -> Completion:
    """Take a completion apart. Takes any string, in time linear in its length."""
    return _READERS[form](text)


def _in_tags(text: str) -> Completion:
    """Well-formed: exactly `<think>…</think><answer>…</answer>`, each tag once, in this order, nothing but white space
    outside, an answer that is not empty. The answer stands between the first <answer> and what closes it. The form is
    there in fifths: each tag exactly once, and all of it."""
    marks = list(_TAG.finditer(text))
    tags = tuple(mark.group() for mark in marks)
    answer, answer_at = None, 0
    for position, mark in enumerate(marks):
        if mark.group() == ANSWER:
            end = marks[position + 1].start() if position + 1 < len(marks) else len(text)
            answer, answer_at = _stripped(text, mark.end(), end)
            break
    whole = False
    if tags == TAGS and answer:
        think, end_think, opening, closing = marks
        whole = not (text[: think.start()] + text[end_think.end() : opening.start()] + text[closing.end() :]).strip()
    return Completion(text, answer, (sum(tags.count(tag) == 1 for tag in TAGS) + whole) / 5, answer_at)


def _boxed(text: str) -> Completion:
    r"""Well-formed: exactly one \\boxed{…}, closed and not empty, whatever stands around it. The answer is in the last.
    The form is there in thirds: one box, closed, and all of it."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return Completion(text, None, 0.0)
    start, depth, end = boxes[-1].end(), 1, len(text)
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace.group() == "{" else -1
        if not depth:
            end = brace.start()
            break
    answer, answer_at = _stripped(text, start, end)
    one, closed = len(boxes) == 1, not depth
    return Completion(text, answer, (one + closed + (one and closed and bool(answer))) / 3, answer_at)


def _on_the_last_line(text: str) -> Completion:
    """Well-formed: exactly one line 「Answer: …」, not empty, and nothing after it. The answer is on the last such
    line. The form is there in halves: one such line, and all of it."""
    lines = list(_LAST_LINE.finditer(text))
    if not lines:
        return Completion(text, None, 0.0)
    answer, answer_at = _stripped(text, lines[-1].end(), len(text))
    first, _, after = answer.partition("\n")
    one = len(lines) == 1
    return Completion(text, first.rstrip(), (one + (one and bool(first) and not after.strip())) / 2, answer_at)


def _stripped(text: str, start: int, end: int) -> tuple[str, int]:
    """What stands there without white space around it, and where that begins."""
    enclosed = text[start:end]
    return enclosed.strip(), start + len(enclosed) - len(enclosed.lstrip())


_READERS: dict[Form, Callable[[str], Completion]] = {
    "tags": _in_tags, "boxed": _boxed, "last line": _on_the_last_line,
}  # fmt: skip


def render(answer: Answer) -> str:
    """An answer as the text that stands in its place."""
    if isinstance(answer, bool):
        return "是" if answer else "否"
    return SEPARATOR.join(answer) if isinstance(answer, list) else str(answer)


def gold_completion(answer: Answer, reasoning: str, form: Form = "tags") -> str:
    """The completion that SFT teaches."""
    said, before = render(answer), f"{reasoning}\n" if reasoning else ""
    match form:
        case "tags":
            return f"{THINK}{reasoning}{END_THINK}{ANSWER}{said}{END_ANSWER}"
        case "boxed":
            return f"{before}\\boxed{{{said}}}"
        case "last line":
            return f"{before}Answer: {said}"


def unspeakable(text: str) -> str | None:
    """What keeps a text from being read, asked or said as it stands, in words: characters that steer a terminal or a
    file, half a character, and what tokenizers take for marks of their own. None where nothing does."""
    if found := _STEERING.search(text):
        return f"the character U+{ord(found.group()):04X}"
    return f"{found.group()!r}, a mark of tokenizers" if (found := _MARK.search(text)) else None


@lru_cache(maxsize=65536)  # a policy says the same few things over and over
def normalised(term: str) -> str:
    """A term as it is compared: one width of characters (NFKC), no white space, no closing full stop."""
    return "".join(unicodedata.normalize("NFKC", term).split()).strip("。.").lower()


def is_one_item(text: str) -> bool:
    """Whether a text, as an item of an answer, is read as that item: not empty, whole, nothing of the form in it."""
    return bool(normalised(text)) and text == text.strip() and not (SEPARATORS.search(text) or _TAG.search(text))


def items(text: str) -> list[str]:
    """The items of a written list, normalised; empty ones stay, for 「甲、、乙」 is not 「甲、乙」."""
    return list(_items(text))


@lru_cache(maxsize=4096)  # asked of one completion under each regime
def _items(text: str) -> tuple[str, ...]:
    return tuple(normalised(part) for part in SEPARATORS.split(text))


class Span(NamedTuple):
    """Characters of a text, from `start` to before `end`."""

    start: int
    end: int


def item_spans(text: str) -> list[Span]:
    """Where the items of a written list stand."""
    separators = [match.span() for match in SEPARATORS.finditer(text)]
    starts, ends = [0, *(end for _, end in separators)], [*(start for start, _ in separators), len(text)]
    return [Span(start, end) for start, end in zip(starts, ends, strict=True)]

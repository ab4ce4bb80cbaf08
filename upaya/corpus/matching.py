"""Exact matching: whether an answer's text says the right answer, by the answer's type. Every reward and the evaluation
use this."""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Protocol

from upaya.corpus import expressions
from upaya.corpus.answers import Answer, AnswerType, items, normalised
from upaya.corpus.numerals import Number, number

LONGEST_CHOICE, LONGEST_JSON = 1000, 20_000  # characters that are looked at

YES, NO = {"是", "有", "对", "yes", "true"}, {"否", "不是", "非", "无", "没有", "不对", "no", "false"}

_ARTICLES = {"a", "an", "the"}
# No brackets, signs or #: they belong to what they stand beside.
_AT_THE_ENDS = " .,;:!?。、…\"'*`_「」『』《》"
_QUOTES = str.maketrans("’‘“”", "''\"\"")

_CHOICE = re.compile(
    r"(?:(?:the )?(?:correct |right |final )?(?:answer|choice|option)(?: is)?|答案(?:是|为)?|选项?) ?:? ?"
    r"(?P<named>\([a-z]\)|\[[a-z]\]|[a-z]\b)|(?P<bare>\([a-z]\)|\[[a-z]\]|[a-z](?=$|[.):。]| [-–—] ))",
    re.IGNORECASE,
)
# A second letter, where it stands as one: in brackets, before a bracket or full stop, or after 「or」 and the like.
_ALSO = re.compile(
    r"[(\[](?P<a>[A-Za-z])[)\]]|(?<![\w(\[])(?P<b>[A-Za-z])\)|(?<![\w.])(?P<c>[A-Z])[.:](?= |$)"
    r"|(?:\b(?:or|and|nor|not|vs|oder|und)\b|[&/,;、]|[或和及与]) ?(?P<d>[A-Za-z])(?!\w)|^\W*(?P<e>[A-Za-z])\W*$"
)


class Checkable(Protocol):
    """What an answer's text is held against: a question, or whatever else has a right answer.

    Attributes:
        tolerance: how far a number may be from the right one; of other types it means nothing.
        unit: what a number counts; see `numerals.number`.
        accepted: for each item of the right answer (a term is one), other forms of it; none where it is empty.
    """

    @property
    def answer(self) -> Answer: ...
    @property
    def answer_type(self) -> AnswerType: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def unit(self) -> str: ...
    @property
    def accepted(self) -> list[list[str]]: ...


@dataclass(frozen=True)
class Expected:
    """A right answer without its question."""

    answer: Answer
    answer_type: AnswerType
    tolerance: float = 0.0
    unit: str = ""
    accepted: list[list[str]] = field(default_factory=list)


def is_exact(text: str | None, question: Checkable) -> bool:
    """Whether an answer's text says exactly the right answer, compared by the answer's type; of a number, within the
    question's tolerance."""
    if not text:
        return False
    answer, answer_type = question.answer, question.answer_type
    if answer_type == "number":
        said = number(text, question.unit) if question.unit else number(text)
        if said is None or said == answer:
            return said is not None
        right = answer if type(answer) is int else right_number(question)
        if question.tolerance and right is not None:
            return abs(Fraction(said) - right) <= as_written(question.tolerance)
        return said == right
    if answer_type == "boolean":
        return normalised(text) in (YES if answer else NO)
    if answer_type == "term":
        return as_right_item(normalised(text), question) == normalised(str(answer))
    if isinstance(answer, list):
        said_items, right_items = right_forms(items(text), question), [normalised(item) for item in answer]
        return said_items == right_items if answer_type == "ordered_list" else sorted(said_items) == sorted(right_items)
    if answer_type == "math":
        return expressions.same(text, str(answer))
    said_form = _FORMS[answer_type](text)
    return said_form is not None and said_form == _FORMS[answer_type](str(answer))


def as_right_item(said: str, question: Checkable) -> str:
    """A normalised item as the right answer writes it, where it is one of the forms that are accepted for it."""
    if not question.accepted:
        return said
    right = question.answer if isinstance(question.answer, list) else [str(question.answer)]
    for item, forms in zip(right, question.accepted, strict=True):
        if said in map(normalised, forms):
            return normalised(item)
    return said


def right_forms(said: Sequence[str], question: Checkable) -> list[str]:
    """Normalised items as the right answer writes them."""
    return [as_right_item(item, question) for item in said]


def right_number(question: Checkable) -> Number | None:
    """The right answer of a question whose answer is a number; None where a written one cannot be read."""
    answer = question.answer
    return answer if isinstance(answer, int) else number(str(answer), question.unit)


@lru_cache(maxsize=256)
def as_written(value: float) -> Fraction:
    """A float as the decimal that a person wrote: 0.1 is a tenth, which no float is."""
    return Fraction(repr(value))


def reading(text: str, question: Checkable) -> Any:
    """What a text is read as by the type of a question's answer; None for what cannot be read, so cannot be right."""
    if question.answer_type == "number":
        return number(text, question.unit)
    if question.answer_type == "boolean":
        return {word: said for said, words in ((True, YES), (False, NO)) for word in words}.get(normalised(text))
    if question.answer_type in ("ordered_list", "set"):
        return right_forms(items(text), question)
    if question.answer_type == "math":
        value = expressions.expression(text)
        return (str(value) if value is not None else expressions.written(text)) or None
    if question.answer_type in _FORMS:
        return _FORMS[question.answer_type](text) or None
    return as_right_item(normalised(text), question) or None


def comparable(text: str, answer_type: AnswerType) -> str:
    """A text as it is compared, character by character, where it is not right: of JSON its value written one way, of
    free text its words; what cannot be read as its type, and all other types, normalised."""
    if answer_type == "math":
        return expressions.written(text)
    form = _FORMS[answer_type](text) if answer_type in _FORMS else None
    return normalised(text) if form is None else form


@lru_cache(maxsize=4096)
def free_text(text: str) -> str:
    """Free text as it is compared: NFKC, one case, single spaces, without quotation marks and punctuation at its ends,
    and without the articles a, an, the before another word (vitamin A keeps its letter)."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_QUOTES)
    words = " ".join(folded.split()).strip(_AT_THE_ENDS).split()
    kept = [word for word in words[:-1] if word not in _ARTICLES] + words[-1:]
    return " ".join(kept) or folded.strip()


@lru_cache(maxsize=4096)
def choice(text: str) -> str | None:
    """The letter of a multiple choice that a text names, as a capital: B, (b), B., B) text, **B**, Answer: B. None
    where it names none, or two."""
    if len(text) > LONGEST_CHOICE:
        return None
    plain = " ".join(unicodedata.normalize("NFKC", text).replace("*", "").split()).strip("`$_\"' ")
    boxed = re.fullmatch(r"\\(?:boxed|text)\{(?:\\text\{)?([^{}]*)\}{1,2}", plain)
    plain = boxed[1] if boxed else plain
    match = _CHOICE.match(plain)
    if not match:
        return None
    letter = (match["named"] or match["bare"]).strip("()[]").upper()
    for also in _ALSO.finditer(plain[match.end() :]):
        if next(filter(None, also.groups())).upper() != letter:
            return None
    return letter


@lru_cache(maxsize=4096)
def json_value(text: str) -> str | None:
    """JSON written the one way that its value has: keys in order, no white space, 1.0 as 1. None for what is no JSON,
    or gives a key twice. A Markdown fence around it is taken off."""
    if len(text) > LONGEST_JSON:
        return None
    fenced = re.fullmatch(r"```(?:json)?\s([^`]*)```", text.strip())
    try:
        value = json.loads(
            fenced[1] if fenced else text, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number,
            object_pairs_hook=_object,
        )  # fmt: skip
        return _json_text(value)
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _json_text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_json_text(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json_text, value)) + "]"
    return _decimal_text(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def _decimal_text(value: Decimal) -> str:
    """A decimal the one way: no zeros at its end, an exponent only where it is a long way off."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    kept = "".join(map(str, digits)).lstrip("0").rstrip("0")
    exponent += len(digits) - len("".join(map(str, digits)).rstrip("0"))
    if not kept:
        return "0"
    if -20 <= exponent <= 20:
        return format(Decimal((sign, tuple(map(int, kept)), exponent)), "f")
    return f"{'-' * sign}{kept}e{exponent}"


_FORMS: dict[AnswerType, Callable[[str], str | None]] = {"choice": choice, "text": free_text, "json": json_value}

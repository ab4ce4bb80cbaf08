"""What rows of questions and answers are, seen without asking: which column is what, of which type the answers are."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from upaya.corpus.matching import Expected, is_exact
from upaya.corpus.numerals import number
from upaya.corpus.questions import SPLITS
from upaya.corpus.sources.rows import OTHERS_SAY, Row, needed
from upaya.declared.validation import Name, QuestionId, validated
from upaya.errors import UserError

QUESTION = (
    "question", "prompt", "problem", "query", "instruction", "input", "stem", "text", "q", "問題", "题目", "问题",
)  # fmt: skip
ANSWER = (
    "answer", "final_answer", "target", "solution", "gold", "correct_answer", "correct", "answerkey", "answer_key",
    "label", "expected", "output", "result", "response", "a", "答案",
)  # fmt: skip
CONTEXT = ("context", "passage", "paragraph", "story", "premise")
CHOICES = ("choices", "options", "alternatives", "endings")
DIFFICULTY, SPLIT, KEY, REASONING = (
    ("difficulty", "level"),
    ("split", "set", "subset", "fold"),
    ("key",),
    ("reasoning",),
)
LETTER = re.compile(r"(?:option|choice|answer|op)?[ _]?([a-j])", re.IGNORECASE)  # A, option_b, choice c, opd
HAN = re.compile("[\u4e00-\u9fff]")
TERM_WORDS, TERM_CHARACTERS = 4, 24  # up to which a text is a term; a longer one is free text
MOST = 0.98  # share of the rows from which on a pattern is theirs


@dataclass
class Seen:
    """Attributes: fields, answer_type, answer_in: as a source declares them. said: what was seen, in words."""

    fields: dict[str, Any] = field(default_factory=dict)
    answer_type: str | None = None
    answer_in: str | dict[str, str] | None = None
    said: list[str] = field(default_factory=list)

    @property
    def declared(self) -> dict[str, Any]:
        """The keys of a source that are not as they would be anyway."""
        more = {"answer_type": self.answer_type, "answer_in": self.answer_in}
        return {"fields": self.fields} | {key: value for key, value in more.items() if value}


def seen(rows: Sequence[Row], told: Mapping[str, str]) -> Seen:
    """Look at all rows.

    Args:
        told: `question`, `answer`, `answer_type`, where the user knows better than to have it guessed.

    Raises:
        UserError: no column can be the question, or none the answer.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    found = Seen()
    found.fields["question"] = told.get("question") or _asked(columns, rows)
    choices = _choices(columns, rows)
    if choices:
        found.fields["choices"] = choices
    taken = {found.fields["question"], *([choices] if isinstance(choices, str) else choices or [])}
    free = [name for name in columns if name not in taken]
    found.fields["answer"] = told.get("answer") or _named(free, ANSWER, "answer", rows)
    found.said.append(f"{len(rows)} rows; columns {', '.join(columns)}")
    _optional(found, columns, rows)
    answers = [needed(row, found.fields["answer"], "answer") for row in rows]
    if not choices:
        _typed(found, answers)
        if found.answer_type == "boolean" or isinstance(answers[0], bool):
            _in_their_language(found, rows)
        found.answer_type = told.get("answer_type") or found.answer_type
    return found


def _asked(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """The question's column; after what it asks about, where that has one of its own."""
    question = _named(columns, QUESTION, "question", rows)
    lower = {column.lower(): column for column in columns}
    about = next((lower[name] for name in CONTEXT if name in lower and lower[name] != question), None)
    if about is None or not all(isinstance(row.values.get(about), str) for row in rows):
        return question
    return f"{{{about}}}\n{{{question}}}"


def _named(columns: Sequence[str], names: Sequence[str], what: str, rows: Sequence[Row]) -> str:
    """The column of one of these names, the first of them first."""
    lower = {column.lower(): column for column in columns}
    for name in names:
        if name in lower and any(row.values.get(lower[name]) not in (None, "") for row in rows):
            return lower[name]
    raise UserError(f"which column is the {what}? There are {', '.join(columns)}; say it: --{what} COLUMN")


def _choices(columns: Sequence[str], rows: Sequence[Row]) -> str | list[str] | None:
    for column in columns:
        values = [row.values.get(column) for row in rows]
        if column.lower() in CHOICES and all(
            isinstance(value, list) or (isinstance(value, Mapping) and isinstance(value.get("text"), list))
            for value in values
        ):
            return column
    letters = {match[1].lower(): column for column in columns if (match := LETTER.fullmatch(column))}
    in_order = [letters[letter] for letter in "abcdefghij"[: len(letters)] if letter in letters]
    return in_order if 2 <= len(in_order) == len(letters) else None


def _optional(found: Seen, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Columns that need not be there: named where they are what their name says, else left out by name."""
    lower = {column.lower(): column for column in columns}
    taken = set(found.fields.values() if not isinstance(found.fields.get("choices"), list) else ())

    def fits(column: str, good: Any) -> bool:
        return column not in taken and all(good(row.values.get(column)) for row in rows)

    for name, names, good in (
        ("split", SPLIT, lambda value: str(value).lower() in {*SPLITS, *OTHERS_SAY}),
        ("difficulty", DIFFICULTY, lambda value: re.fullmatch(r"\d+", str(value)) is not None),
        ("id", ("id",), lambda value: _is(QuestionId, str(value))),
        ("kind", ("kind",), lambda value: _is(Name, str(value))),
        ("key", KEY, lambda value: isinstance(value, str)),
        ("reasoning", REASONING, lambda value: isinstance(value, str)),
    ):  # fmt: skip
        column = next((lower[other] for other in names if other in lower and fits(lower[other], good)), None)
        usual = name in columns
        if column and column != name:
            found.fields[name] = column
        elif usual and not column:
            found.fields[name] = None
            found.said.append(f"column {name!r} is not read: it is not what the name says here")


def _is(kind: Any, text: str) -> bool:
    try:
        validated(kind, text, "")
    except UserError:
        return False
    return True


def _typed(found: Seen, answers: Sequence[Any]) -> None:
    """The answers' type, and where in their column they stand."""
    texts = [answer for answer in answers if isinstance(answer, str)]
    if len(texts) == len(answers):
        if _most(texts, lambda text: "####" in text):
            found.answer_in, texts = {"after": "####"}, [text.rpartition("####")[2].strip() for text in texts]
        elif _most(texts, lambda text: r"\boxed{" in text):
            found.answer_in, found.answer_type = "boxed", "math"
            inner = [re.findall(r"\\boxed\{([^{}]*)\}", text)[-1:] for text in texts]
            if _most(inner, lambda parts: bool(parts) and number(parts[0]) is not None):
                found.answer_type = "number"
            return
        found.answer_type = _of_texts(texts)
    elif not all(type(answer) is type(answers[0]) for answer in answers):
        numbers = all(isinstance(answer, int | float) and not isinstance(answer, bool) for answer in answers)
        found.answer_type = "number" if numbers else None
    elif isinstance(answers[0], dict):
        found.said.append(
            f"answers are objects ({', '.join(answers[0])}), compared as JSON; one part of them: --answer "
            f"{found.fields['answer']}.{next(iter(answers[0]), '…')}"
        )
    elif isinstance(answers[0], list):
        found.said.append("lists are compared in order; where theirs is of no matter, `answer_type: set`")


def _in_their_language(found: Seen, rows: Sequence[Row]) -> None:
    """The right answers of type `boolean` are taught as 是 and 否, which nobody should say to an English question."""
    if not any(HAN.search(str(value)) for row in rows for value in row.values.values()):
        found.answer_type = "term"
        found.said.append(
            "yes and no are compared as words (`term`): of type `boolean` they would be taught as 是 and 否"
        )


def _of_texts(texts: Sequence[str]) -> str:
    if _most(texts, lambda text: number(text) is not None):
        return "number"
    if all(any(is_exact(text, Expected(right, "boolean")) for right in (True, False)) for text in texts):
        return "boolean"
    if all(re.fullmatch(r"\(?[A-Ja-j][).]?", text.strip()) for text in texts):
        return "choice"
    if _most(texts, lambda text: text.strip()[:1] in "{[" and _is_json(text)):
        return "json"
    if sum("\\" in text or "^" in text for text in texts) > len(texts) / 5:
        return "math"
    long = sum(len(text.split()) > TERM_WORDS or len(text) > TERM_CHARACTERS for text in texts)
    return "text" if long > len(texts) / 20 else "term"


def _most(values: Sequence[Any], good: Any) -> bool:
    return sum(bool(good(value)) for value in values) >= MOST * len(values)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

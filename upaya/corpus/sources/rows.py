"""Rows of a file or a dataset as entries: which column is what, as declared, and answers as people write them."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from upaya.corpus.answers import ANSWER_TYPES, Answer, AnswerType
from upaya.corpus.matching import Expected, is_exact
from upaya.corpus.numerals import number
from upaya.corpus.questions import SPLITS, Split
from upaya.corpus.sources.entry import Entry
from upaya.declared.questions import After, Fields, Rows
from upaya.declared.validation import Name, QuestionId, validated
from upaya.errors import UserError, nearest

OTHERS_SAY: dict[str, Split] = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train"}
_COLUMN = re.compile(r"\{([^{}]+)\}")  # in a question's wording
_LIST = re.compile(r"[、，,;；\n]")
_BOXED = r"\boxed{"


@dataclass(frozen=True)
class Row:
    """Attributes: split: of the file or dataset that the row stands in, where that has one."""

    values: Mapping[str, Any]
    place: str
    split: Split | None = None


@dataclass(frozen=True)
class RowSource:
    """A source made of rows. Attributes: name: as declared. origin: what a reader is told of where they come from."""

    name: str
    declared: Rows
    origin: str
    rows: Iterable[Row]
    _columns: dict[str, None] = field(default_factory=dict)  # of all rows, in order

    def entries(self) -> Iterator[Entry]:
        for row in self.rows:
            self._columns.update(dict.fromkeys(row.values))
            yield entry(row, self.name, self.declared, self.origin)

    def text(self) -> Iterator[str]:
        return iter(())

    def unread(self) -> Iterator[str]:
        read = columns(self.declared.fields)
        return (column for column in self._columns if column not in read)


def columns(fields: Fields) -> set[str]:
    """The columns that are read where they are there."""
    named = set(fields.model_dump(exclude={"question", "choices"}).values())
    choices = [fields.choices] if isinstance(fields.choices, str) else fields.choices or []
    asked = _COLUMN.findall(fields.question) or [fields.question]
    every = {*named, *choices, *asked}
    return every | {column.partition(".")[0] for column in every}


def entry(row: Row, name: str, declared: Rows, origin: str) -> Entry:
    """A row as an entry. Raises UserError naming the place, the column and the cure."""
    fields, where = declared.fields, row.place
    options = _options(row, declared)
    asked = _asked(row, fields)
    lines = [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False)]
    answer, answer_type = _answer(row, declared, options)
    difficulty = _value(row, "difficulty", fields)
    if difficulty is not None and not re.fullmatch(r"\d+", str(difficulty)):
        raise UserError(
            f"{where}: column {fields.difficulty!r}: a difficulty is a whole number, this is {difficulty!r}"
        )
    identity = _text(row, "id", fields)
    return Entry(
        prompt="\n".join([asked, *lines]),
        answer=answer,
        answer_type=answer_type,
        kind=validated(Name, _text(row, "kind", fields) or name, f"{where}: column {fields.kind!r}"),
        place=where,
        source=_text(row, "source", fields) or origin,
        split=_split(row, fields),
        key=_text(row, "key", fields) or (_choice_key(asked, options, answer) if options else None),
        id=validated(QuestionId, identity, f"{where}: column {fields.id!r}") if identity else None,
        difficulty=int(difficulty) if difficulty is not None else 1,
        reasoning=_text(row, "reasoning", fields),
        tolerance=_tolerance(row, declared),
        unit=_unit(row, declared),
    )


def _choice_key(asked: str, options: Sequence[str], answer: Answer) -> str:
    """The same question with other wrong alternatives, or in another order, is the same question; `Which is true?` with
    another right one is not."""
    return f"{asked}\n{options[ascii_uppercase.index(str(answer))]}"


def _asked(row: Row, fields: Fields) -> str:
    asked = fields.question
    if _COLUMN.search(asked):

        def column(match: re.Match[str]) -> str:
            return str(needed(row, match[1], "question"))

        prompt = _COLUMN.sub(column, asked)
    else:
        prompt = str(needed(row, asked, "question"))
    if not prompt.strip():
        raise UserError(f"{row.place}: column {asked!r}: the question is empty")
    return prompt


def _options(row: Row, declared: Rows) -> list[str]:
    """The alternatives of a multiple choice, in the order in which they are shown."""
    columns = declared.fields.choices
    if columns is None:
        return []
    if isinstance(columns, list):
        return [str(needed(row, column, "choices")) for column in columns]
    options = needed(row, columns, "choices")
    if isinstance(options, Mapping) and isinstance(options.get("text"), list):  # as ARC and CommonsenseQA have them
        options = options["text"]
    if not isinstance(options, list) or not 2 <= len(options) <= len(ascii_uppercase):
        raise UserError(f"{row.place}: column {columns!r}: expected a list of 2 to 26 choices, this is {options!r}")
    return [str(option) for option in options]


def _answer(row: Row, declared: Rows, options: list[str]) -> tuple[Answer, AnswerType]:
    fields = declared.fields
    raw = needed(row, fields.answer, "answer")
    if raw in (None, "", []):
        raise UserError(f"{row.place}: column {fields.answer!r}: the question has no answer")
    if options:
        return _letter(raw, options, row.place), "choice"
    named = _text(row, "type", fields) or declared.answer_type or _by_its_look(raw)
    if named not in ANSWER_TYPES:
        wrong = f"unknown answer type {named!r}; {nearest(named, ANSWER_TYPES)}" if named else _which(raw)
        raise UserError(f"{row.place}: {wrong}")
    answer_type: AnswerType = named
    value = extracted(raw, declared.answer_in, row.place) if isinstance(raw, str) else raw
    return typed(value, answer_type, row.place, _unit(row, declared)), answer_type


def _which(raw: Any) -> str:
    return (
        f"of which type is the answer {raw!r}? Declare `answer_type: …` for the source, or `fields: {{type: COLUMN}}`; "
        f"there are {', '.join(ANSWER_TYPES)}"
    )


def _by_its_look(raw: Any) -> str:
    """The type that a value has without being told; text can be anything."""
    return {bool: "boolean", int: "number", float: "number", list: "ordered_list", dict: "json"}.get(type(raw), "")


def extracted(text: str, where: After | str, place: str) -> str:
    """The part of a text that is the answer: all of it, what follows the last mark, or what is boxed last."""
    if isinstance(where, After):
        _, mark, rest = text.rpartition(where.after)
        if not mark or not rest.strip():
            raise UserError(f"{place}: the answer has nothing after {where.after!r} (`answer_in`): …{text[-60:]!r}")
        return rest.strip()
    if where == "whole":
        return text.strip()
    start = text.rfind(_BOXED)
    depth = 0
    for end in range(start + len(_BOXED) - 1, len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start + len(_BOXED) : end].strip()
    raise UserError(f"{place}: the answer has no {_BOXED}…}} (`answer_in`): …{text[-60:]!r}")


def typed(value: Any, answer_type: AnswerType, place: str, unit: str = "") -> Answer:
    """A written answer as one of its type. Raises UserError where it is none. Args: unit: of a number."""
    said = value if isinstance(value, str) else repr(value)
    match answer_type:
        case "number":
            exact = number(said, unit) if not isinstance(value, bool) else None
            if exact is not None:
                return exact if isinstance(exact, int) else said.strip()
        case "boolean":
            if isinstance(value, bool):
                return value
            for answer in (True, False):
                if is_exact(said, Expected(answer, "boolean")):
                    return answer
        case "ordered_list" | "set":
            items = [str(item) for item in value] if isinstance(value, list) else _LIST.split(said)
            items = [item.strip() for item in items]
            if items and all(items):
                return items
        case "json" if not isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        case _:
            if isinstance(value, bool):
                return str(value).lower()
            if isinstance(value, str | int | float):
                return str(value)
    raise UserError(f"{place}: the answer {value!r} is no {answer_type.replace('_', ' ')}")


def _unit(row: Row, declared: Rows) -> str:
    return _text(row, "unit", declared.fields) or declared.unit


def _tolerance(row: Row, declared: Rows) -> float:
    said = _value(row, "tolerance", declared.fields)
    if said in (None, ""):
        return declared.tolerance
    try:
        tolerance = float(said)
    except (TypeError, ValueError):
        tolerance = -1.0
    if not 0 <= tolerance < float("inf"):
        where = f"{row.place}: column {declared.fields.tolerance!r}"
        raise UserError(f"{where}: a tolerance is a number from 0 on, this is {said!r}")
    return tolerance


def _letter(raw: Any, options: list[str], place: str) -> str:
    """A choice as its letter, from a letter, a place counted from 0, or the choice's own words."""
    letters = ascii_uppercase[: len(options)]
    said = str(raw).strip()
    if said.isdigit() and int(said) < len(options):
        return letters[int(said)]
    if said.upper() in letters and len(said) == 1:
        return said.upper()
    if options.count(said) == 1:
        return letters[options.index(said)]
    raise UserError(f"{place}: the answer {raw!r} is none of the choices {letters[0]} to {letters[-1]}: {options}")


def _split(row: Row, fields: Fields) -> Split | None:
    said = _text(row, "split", fields)
    return as_split(said, f"{row.place}: column {fields.split!r}") if said else row.split


def as_split(said: str, where: str) -> Split:
    """Our name of a split. Raises UserError."""
    name = said.strip().lower()
    name = OTHERS_SAY.get(name, name)
    if name not in SPLITS:
        raise UserError(f"{where}: no split {said!r}; {nearest(name, SPLITS)}")
    return name


def _text(row: Row, field: str, fields: Fields) -> str:
    value = _value(row, field, fields)
    return "" if value is None else str(value)


def _value(row: Row, field: str, fields: Fields) -> Any:
    """What stands in a column; None where there is none of the usual name."""
    column = getattr(fields, field)
    if column in row.values or field not in fields.model_fields_set:
        return row.values.get(column)
    return needed(row, column, field)


def needed(row: Row, column: str, field: str) -> Any:
    """What stands in a column; `choices.text` is what `text` says in the mapping of `choices`."""
    if column in row.values:
        return row.values[column]
    node: Any = row.values
    for part in column.split("."):
        if not isinstance(node, Mapping) or part not in node:
            known = [str(key) for key in (node if isinstance(node, Mapping) else row.values)]
            raise UserError(f"{row.place}: no column {column!r} (`fields: {{{field}: …}}`); {nearest(part, known)}")
        node = node[part]
    return node

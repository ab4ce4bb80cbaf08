"""Finished questions of a user's own: questions/*.jsonl of a corpus."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from upaya.corpus.answers import ANSWER_TYPES, PYTHON_TYPES, Answer, AnswerType, render
from upaya.corpus.authored import Corpus
from upaya.corpus.matching import reading
from upaya.corpus.questions import Question, Split
from upaya.corpus.script import Converter
from upaya.declared.validation import Name, QuestionId, validated
from upaya.errors import UserError, nearest
from upaya.files import read_jsonl


def _converted(answer: Answer, converter: Converter) -> Answer:
    if isinstance(answer, list):
        return [converter.simplify(item) for item in answer]
    return converter.simplify(answer) if isinstance(answer, str) else answer


class OwnQuestion(BaseModel):
    """A line of questions/*.jsonl as a user writes it; what is absent is filled in."""

    model_config = ConfigDict(extra="forbid")

    id: QuestionId
    prompt: str = Field(min_length=1)
    answer: StrictBool | StrictInt | StrictStr | list[StrictStr]
    answer_type: AnswerType
    split: Split
    source: str
    kind: Name = "own"
    reasoning: str = ""
    difficulty: int = 1
    tolerance: float = Field(default=0, ge=0, allow_inf_nan=False)
    unit: str = ""


def _own(corpus: Corpus, converter: Converter) -> Iterator[Question]:
    places: dict[str, str] = {}
    asked: dict[str, tuple[Split, str]] = {}
    for file in corpus.own_questions:
        for line, row in read_jsonl(file):
            where = f"{file}, line {line}"
            own = _checked(row, where)
            if own.id in places:
                raise UserError(f"{where}: the id {own.id!r} stands already in {places[own.id]}; ids are unique")
            places[own.id] = where
            key = f"{own.kind}/{converter.simplify(own.prompt)}"
            first_split, first_where = asked.setdefault(key, (own.split, where))
            if first_split != own.split:
                raise UserError(
                    f"{where}: this question is in the {own.split} split, and {first_where} asks it in the "
                    f"{first_split} split. What is tested must not be trained on: give both the same split."
                )
            yield Question(
                id=own.id,
                kind=own.kind,
                split=own.split,
                key=key,
                prompt=converter.simplify(own.prompt),
                answer=_converted(own.answer, converter),
                answer_type=own.answer_type,
                reasoning=converter.simplify(own.reasoning),
                source=own.source,
                difficulty=own.difficulty,
                tolerance=own.tolerance,
                unit=own.unit,
                prompt_traditional=own.prompt,
                answer_traditional=own.answer,
            )


def _checked(row: Any, where: str) -> OwnQuestion:
    if not isinstance(row, dict):
        raise UserError(f"{where}: a question is a JSON object, this is {type(row).__name__}")
    answer_type = row.get("answer_type")
    if answer_type is not None and answer_type not in ANSWER_TYPES:
        raise UserError(f"{where}: unknown answer type {answer_type!r}; {nearest(str(answer_type), ANSWER_TYPES)}")
    if row.get("answer") in (None, "", []):
        raise UserError(f"{where}: question {row.get('id', '(without id)')!r} has no answer")
    own = validated(OwnQuestion, row, where)
    expected = PYTHON_TYPES[own.answer_type]
    problem = f"{where}: an answer of type {own.answer_type!r} is a JSON " + (
        f"{ {int: 'number', str: 'string', list: 'list of strings', bool: 'true or false'}[expected[0]] }, "
        f"this is {own.answer!r}"
    )
    if type(own.answer) not in expected:
        raise UserError(problem)
    if own.answer_type == "number" and reading(render(own.answer), own) is None:
        raise UserError(f'{problem}; one that is no whole number stands as a string: "1/2", "0.25"')
    if (own.tolerance or own.unit) and own.answer_type != "number":
        raise UserError(f"{where}: a tolerance and a unit are of numbers, this answer's type is {own.answer_type!r}")
    return own

"""Questions, as convert writes them and every other stage reads them."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from upaya.corpus.answers import Answer, AnswerType, Form, gold_completion
from upaya.declared.selection import Selection
from upaya.errors import UserError, nearest
from upaya.records.reading import damaged, read_lines

Split = Literal["train", "validation", "test"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Question(BaseModel):
    """One question with its exact answer, in both scripts.

    `prompt`, `answer` and `reasoning` are Simplified, the `_traditional` ones as authored. `key` is the fact
    combination that the split goes by; `held_out_phrasing` marks wordings that training never shows. Of a list whose
    items ask for different things, `skills` names what each item asks for and `choices` holds the alternatives that the
    question offers for it; both are empty where the items are alike. Of a number, `tolerance` is how far it may be from
    the right one, and `unit` what it counts ("km", "%"). `accepted` holds, for each item of the right answer (a term is
    one), other forms that are read as it. None of these three is written to questions/ where it is not given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    kind: str
    split: Split
    key: str
    prompt: str
    answer: Answer
    answer_type: AnswerType
    reasoning: str
    source: str
    difficulty: int = 1
    held_out_phrasing: bool = False
    skills: list[str] = Field(default_factory=list)  # pydantic would copy a default, and that deeply
    choices: list[list[str]] = Field(default_factory=list)
    tolerance: float = Field(default=0, ge=0, allow_inf_nan=False, exclude_if=lambda value: not value)
    unit: str = Field(default="", exclude_if=lambda value: not value)
    form: Form = Field(default="tags", exclude_if=lambda value: value == "tags")
    accepted: list[list[str]] = Field(default_factory=list, exclude_if=lambda value: not value)
    prompt_traditional: str
    answer_traditional: Answer

    @property
    def gold(self) -> str:
        return gold_completion(self.answer, self.reasoning, self.form)


def read_split(folder: Path, split: Split) -> list[Question]:
    """All questions of one split. Raises UserError where the file is missing or damaged."""
    path, maker = folder / f"{split}.jsonl", "`dvc repro convert`"
    questions = read_lines(path, Question, maker)
    seen = set[str]()
    for line, question in enumerate(questions, start=1):
        if question.split != split:
            raise damaged(path, line, f"key 'split': it is {question.split!r}", maker)
        if question.id in seen:
            raise damaged(path, line, f"key 'id': {question.id!r} stands here twice", maker)
        for key, answer in (("answer", question.answer), ("answer_traditional", question.answer_traditional)):
            if not _is_one(answer, question):
                raise damaged(path, line, f"key {key!r}: no {question.answer_type} (it is {answer!r})", maker)
        seen.add(question.id)
    return questions


def _is_one(answer: Answer, question: Question) -> bool:
    """Whether an answer is one of the question's type."""
    match question.answer_type:
        case "boolean":
            return isinstance(answer, bool)
        case "ordered_list" | "set":
            return isinstance(answer, list)
        case "number":
            return type(answer) is int or (isinstance(answer, str) and any(sign.isnumeric() for sign in answer))
        case _:
            return isinstance(answer, str)


def read(folder: Path, split: Split, selection: Selection | None = None) -> list[Question]:
    """The questions of one split that a selection holds. Raises UserError where none is left."""
    questions = read_split(folder, split)
    if selection:
        for kind in selection.kinds:
            if not any(question.kind == kind for question in questions):
                kinds = {question.kind for question in questions}
                raise UserError(f"{folder / f'{split}.jsonl'} has no question of kind {kind!r}; {nearest(kind, kinds)}")
        questions = [question for question in questions if selection.holds(question.kind, question.difficulty)]
    if not questions:
        raise UserError(f"{folder / f'{split}.jsonl'}: no question is left by the selection {selection}")
    return questions

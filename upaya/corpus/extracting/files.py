"""Files of extracted questions, which a person reviews and strikes from: NAME-KIND.yaml."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from upaya.corpus.answers import AnswerType, render
from upaya.corpus.authored import Elements, Phrasing, need_askable
from upaya.declared.validation import Declared, Name, load_yaml
from upaya.errors import UserError, nearest

EXTRACTED = "extracted"


class Review(Declared):
    """What a person has said of something extracted.

    Attributes:
        place: the reference of the printed line where it begins.
        passage: the span of the text that asks and answers, and no more.
        kept: true where it is asked. struck: why it is not; exactly one of the two is there.
        verdict: of one that was read by hand in its context.
    """

    place: str
    fascicle: int = Field(gt=0)
    passage: str = Field(min_length=1)
    kept: StrictBool | None = None
    struck: str | None = None
    verdict: Literal["right", "wrong"] | None = None

    @model_validator(mode="after")
    def kept_or_struck_for_a_reason(self) -> Self:
        if self.struck is not None and not self.struck.strip():
            raise ValueError(f"{self.place}: struck without a reason; write why: `struck: the answer is an opinion's`")
        if self.kept is False:
            raise ValueError(f"{self.place}: in place of `kept: false` write why not: `struck: the answer is …`")
        if bool(self.kept) == (self.struck is not None):
            raise ValueError(f"{self.place}: exactly one of `kept: true` and `struck: REASON`")
        if self.verdict == "wrong" and self.kept:
            raise ValueError(f"{self.place}: read as wrong and kept; strike it, with what is wrong as the reason")
        return self


class Extracted(Review):
    """A question with its answer."""

    question: str = Field(min_length=1)
    answer: StrictBool | StrictInt | str | list[str]


class ExtractedFile(Declared):
    """The questions of one kind from one text.

    Attributes:
        text: the import's name.
        wordings: of the questions; {treatise}, {fascicle} and {question} mark where these go.
    """

    text: str
    treatise: str
    kind: Name
    answer_type: AnswerType
    wordings: list[Phrasing] = Field(min_length=1)
    entries: list[Extracted]

    @model_validator(mode="after")
    def wordings_ask_the_question(self) -> Self:
        need_askable(self.kind, self.wordings, ["question"])
        return self

    @model_validator(mode="after")
    def one_answer_each(self) -> Self:
        for question, entries in by_question(self.kept).items():
            if len({compared(entry) for entry in entries}) > 1:
                both = "; ".join(f"{render(entry.answer)} at {entry.place}" for entry in entries)
                raise ValueError(f"{question}: kept with two answers, {both}; strike all but one")
        return self

    @property
    def kept(self) -> list[Extracted]:
        return [entry for entry in self.entries if entry.kept]


class GateTable(Elements):
    """A table like elements.yaml that an extractor found, asked n gates at once; `reviewed` says of each gate where it
    stands."""

    text: str
    kind: Name
    phrasings: list[Phrasing] = Field(min_length=1)
    reviewed: dict[str, Review]

    @model_validator(mode="after")
    def phrasings_ask_gates_of_an_element(self) -> Self:
        need_askable(self.kind, self.phrasings, ["element", "axes"])
        return self

    @model_validator(mode="after")
    def every_gate_is_reviewed(self) -> Self:
        names = [axis.name for axis in self.axes]
        for name in names:
            if name not in self.reviewed:
                raise ValueError(f"reviewed says nothing of the gate {name}")
        for name in self.reviewed:
            if name not in names:
                raise ValueError(f"reviewed: {name!r} is no gate; {nearest(name, names)}")
        return self

    def asked(self) -> Elements:
        """The table without struck gates. Raises UserError where none is left."""
        axes = [axis for axis in self.axes if self.reviewed[axis.name].kept]
        if not axes:
            raise UserError(f"{self.text}-{self.kind}.yaml: every gate is struck, there is nothing to ask")
        return Elements(treatise=self.treatise, elements=self.elements, groups=self.groups, axes=axes)


def by_question(entries: Iterable[Extracted]) -> dict[str, list[Extracted]]:
    groups: dict[str, list[Extracted]] = defaultdict(list)
    for entry in entries:
        groups[entry.question].append(entry)
    return groups


def compared(entry: Extracted) -> str:
    """The answer as it is compared with another of its question."""
    return render(sorted(entry.answer) if isinstance(entry.answer, list) else entry.answer)


def file_of(folder: Path, text: str, kind: str) -> Path:
    return folder / EXTRACTED / f"{text}-{kind}.yaml"


def read_extracted(folder: Path, text: str, kind: str) -> ExtractedFile:
    """Raises UserError where there is none, or an entry is not as it should be."""
    return load_yaml(_there(folder, text, kind), ExtractedFile)


def read_table(folder: Path, text: str, kind: str) -> GateTable:
    """Raises as `read_extracted`."""
    return load_yaml(_there(folder, text, kind), GateTable)


def _there(folder: Path, text: str, kind: str) -> Path:
    path = file_of(folder, text, kind)
    if not path.is_file():
        known = sorted(file.stem.removeprefix(f"{text}-") for file in path.parent.glob(f"{text}-*.yaml"))
        cure = nearest(kind, known) if known else f"`upaya extract {text}` writes them into corpus/{EXTRACTED}/"
        raise UserError(f"{path}: no such file of extracted questions; {cure}")
    return path

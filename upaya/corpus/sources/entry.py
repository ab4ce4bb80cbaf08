"""What a source of questions is: something that yields entries, and text to pre-train on where it has any."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from upaya.corpus.answers import Answer, AnswerType
from upaya.corpus.questions import Split


@dataclass(frozen=True)
class Entry:
    """A question as its source has it, before conversion.

    Attributes:
        place: where it stands, for messages: file and line, or dataset and row.
        split: the one that the source gives it; None where the declared shares are to.
        key: questions with one key are in one split; None for the question itself.
        source: what a reader is told of where it comes from.
        id: None for one made of the source's name and the entry's number.
        skills, choices, held_out_phrasing, tolerance, unit, accepted: as of a `Question`.
        shortcuts: cheap rule → the answer that it gives without the doctrine, for the table of cheap baselines
            (upaya/corpus/baselines.py); not of the question.
    """

    prompt: str
    answer: Answer
    answer_type: AnswerType
    kind: str
    place: str
    source: str
    split: Split | None = None
    key: str | None = None
    id: str | None = None
    difficulty: int = 1
    reasoning: str = ""
    held_out_phrasing: bool = False
    skills: list[str] = field(default_factory=list)
    choices: list[list[str]] = field(default_factory=list)
    tolerance: float = 0.0
    unit: str = ""
    accepted: list[list[str]] = field(default_factory=list)
    shortcuts: dict[str, Answer] = field(default_factory=dict)


class Source(Protocol):
    """Raises UserError, from either method, for what it cannot make questions of."""

    def entries(self) -> Iterable[Entry]:
        """All its questions, always in the same order."""

    def text(self) -> Iterable[str]:
        """Plain lines that a base model reads before it is ever asked; none where the source has none."""

    def unread(self) -> Iterable[str]:
        """The names of what it holds and does not use, of the entries that have been read."""

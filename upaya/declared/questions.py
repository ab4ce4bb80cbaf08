"""params/questions.yaml: where the questions come from and how they are made.

A source has a name and a type. What its type wants is declared here and nowhere else.
"""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from upaya.declared.validation import MOST, Declared, FileName, Name, Size


class Shares(Declared):
    """Shares of the keys whose questions go to each split."""

    train: float = Field(gt=0)
    validation: float = Field(gt=0)
    test: float = Field(gt=0)

    @model_validator(mode="after")
    def add_up(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train + validation + test must add up to 1")
        return self


class Counts(Declared):
    """Numbers of questions per split."""

    train: Size
    validation: Size
    test: Size


def _below_data(path: str) -> str:
    """What a stage reads shall be known to DVC, which watches data/."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError("expected a path below data/, as data.dvc brings it there: questions/mine.csv")
    return path


BelowData = Annotated[str, AfterValidator(_below_data)]


Form = Literal["tags", "boxed", "last line"]
FORM = "where a completion has its answer: <answer>…</answer> after <think>…</think>, \\boxed{…}, a last line Answer: …"


class CorpusSource(Declared):
    """The authored corpus: elements under the gates, numbered lists (upaya/corpus/authored.py)."""

    type: Literal["corpus"]
    form: Form = Field(default="tags", description=FORM)
    statements: int = Field(ge=0, le=MOST, description="lines of plain text for pre-training")
    element_values: dict[Size, Counts] = Field(
        min_length=1, description="number of axes asked for at once (the difficulty dial) → numbers of questions"
    )
    other_kinds: Shares
    held_out_phrasings: float = Field(
        ge=0, le=1, description="share of validation and test questions in wordings held out for them"
    )


class Fields(Declared):
    """Which column is what. A column under its usual name here need not be declared, and need not be there but for
    `question` and `answer`; one inside another is `outer.inner`."""

    question: str = Field(
        default="prompt", description="a column, or a text with columns in braces: '{context}\\n{question}'"
    )
    answer: str = "answer"
    choices: str | list[str] | None = Field(
        default=None,
        description="of a multiple choice: the column with the list, or a column for each; shown as A., B., …",
    )
    type: str | None = "answer_type"
    tolerance: str | None = "tolerance"
    unit: str | None = "unit"
    split: str | None = "split"
    key: str | None = "key"
    kind: str | None = "kind"
    id: str | None = "id"
    difficulty: str | None = "difficulty"
    reasoning: str | None = "reasoning"
    source: str | None = "source"


class After(Declared):
    """The answer is what follows the last of these marks: '####' in GSM8K."""

    after: str = Field(min_length=1)


class Rows(Declared):
    """What all sources of rows have."""

    fields: Fields = Fields()
    answer_type: str | None = Field(default=None, description="of all answers, where no column says it")
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="how far a number may be from right")
    unit: str = Field(default="", description="what numbers count: km, %; see docs/rewards.md")
    answer_in: Literal["whole", "boxed"] | After = Field(
        default="whole", description="where in its column the answer stands"
    )
    shares: Shares = Field(
        default_factory=lambda: Shares(train=0.8, validation=0.1, test=0.1),
        description="of questions without a split; a split that a source lacks is taken from its training questions",
    )
    form: Form = Field(default="tags", description=FORM)
    script: Literal["traditional", "as written"] = Field(
        default="traditional", description="`as written` where OpenCC shall change nothing, as in Japanese"
    )


class FileSource(Rows):
    """Files below data/."""

    type: Literal["jsonl", "csv", "parquet"]
    files: BelowData = Field(description="a path or a pattern: questions/*.csv")


class HuggingFaceSource(Rows):
    """A dataset of the hub at a revision, or in a folder below data/ (saved to disk, or its files)."""

    type: Literal["huggingface"]
    dataset: BelowData
    config: str | None = None
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$", description="of a dataset of the hub")
    splits: dict[Literal["train", "validation", "test"], str] = Field(
        default_factory=dict, description="ours → theirs; without it those whose names say it"
    )


class ReasoningGymSource(Rows):
    """A dataset that reasoning-gym generates."""

    type: Literal["reasoning_gym"]
    dataset: str
    version: str = Field(description="of reasoning-gym: another may generate other questions")
    size: Size
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)


class TextSource(Declared):
    """An imported text (docs/texts.md) to pre-train on; it has no questions."""

    type: Literal["text"]
    text: BelowData = Field(description="the import's folder: texts/T27n1545")
    lines: Size | None = Field(default=None, description="how many lines of it; all where neither is given")
    share: float | None = Field(
        default=None, gt=0, lt=1, description="of all lines to pre-train on, those of the other sources included"
    )
    length: int = Field(default=128, ge=16, description="characters that a line has at most")
    script: Literal["traditional", "as written"] = Field(
        default="traditional", description="`as written` where OpenCC shall change nothing"
    )

    @model_validator(mode="after")
    def one_measure(self) -> Self:
        if self.lines is not None and self.share is not None:
            raise ValueError("`lines` and `share` both say how much of it; leave one out")
        return self


class ExtractedSource(Declared):
    """What `upaya extract` found in a text and a person kept (docs/from-text.md)."""

    type: Literal["extracted"]
    text: FileName = Field(description="the import's name: extracted/TEXT-KIND.yaml below data/ are read")
    kinds: list[Name] = Field(default_factory=list, description="those of single questions, one file each")
    values: dict[Name, dict[Size, Counts]] = Field(
        default_factory=dict,
        description="those of a table, causes_values: gates asked for at once → numbers of questions",
    )
    shares: Shares = Field(
        default_factory=lambda: Shares(train=0.7, validation=0.1, test=0.2), description="of the questions of `kinds`"
    )
    statements: int = Field(default=0, ge=0, le=MOST, description="lines of plain text on the tables, for pre-training")
    held_out_phrasings: float = Field(
        default=0.25, ge=0, le=1, description="share of validation and test questions in wordings held out for them"
    )
    form: Form = Field(default="tags", description=FORM)
    script: Literal["traditional", "as written"] = Field(
        default="traditional", description="`as written` where OpenCC shall change nothing"
    )

    @model_validator(mode="after")
    def asks_something(self) -> Self:
        if not self.kinds and not self.values:
            raise ValueError("neither `kinds` nor `values` is given: nothing would be asked")
        for kind in self.values:
            if kind in self.kinds:
                raise ValueError(f"{kind} stands under `kinds` and under `values`; a table is asked by `values`")
        if self.statements and not self.values:
            raise ValueError("`statements` are of tables, and no table is asked (`values`)")
        return self


AnySource = Annotated[
    CorpusSource | FileSource | HuggingFaceSource | ReasoningGymSource | TextSource | ExtractedSource,
    Field(discriminator="type"),
]


class QuestionParams(Declared):
    """params/questions.yaml."""

    seed: int
    sources: dict[Name, AnySource] = Field(min_length=1)

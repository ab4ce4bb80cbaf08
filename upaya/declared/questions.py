"""params/questions.yaml: how the questions are made."""

from typing import Self

from pydantic import Field, model_validator

from upaya.declared.validation import Declared


class Fractions(Declared):
    """Shares of the lists whose questions go to each split."""

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

    train: int = Field(gt=0)
    validation: int = Field(gt=0)
    test: int = Field(gt=0)


class QuestionParams(Declared):
    """params/questions.yaml: how the questions are made."""

    seed: int
    statements: int = Field(ge=0, description="lines of plain text for pre-training")
    element_values: dict[int, Counts] = Field(
        min_length=1, description="number of axes asked for at once (the difficulty dial) → numbers of questions"
    )
    other_kinds: Fractions
    held_out_phrasings: float = Field(
        ge=0, le=1, description="share of validation and test questions in wordings held out for them"
    )

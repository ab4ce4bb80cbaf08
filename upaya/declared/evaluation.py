"""How policies are evaluated."""

from typing import Literal, Self

from pydantic import Field, model_validator

from upaya.declared.validation import Declared, Name, Size


class Evaluation(Declared):
    split: Literal["test", "validation"] = Field(
        default="test", description="the questions; `validation` while something is chosen by what comes of it"
    )
    samples: Size = Field(description="completions per question for pass@k")
    ks: list[Size] = Field(min_length=1)
    bootstrap: Size = Field(description="resamples of the questions for the intervals")
    also: list[Name] = Field(
        default_factory=list,
        description="kinds that are measured besides and reported apart, on all their questions outside training",
    )

    @model_validator(mode="after")
    def enough_samples(self) -> Self:
        if max(self.ks) > self.samples:
            raise ValueError(f"pass@{max(self.ks)} needs at least {max(self.ks)} samples")
        return self

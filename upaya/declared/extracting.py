"""params/extracting.yaml: patterns by which questions are extracted from an imported text, without a change to code."""

import re

from pydantic import Field, field_validator

from upaya.declared.validation import Declared, Name

LONGEST_PATTERN = 1000  # characters
GROUPS = ("question", "answer")


class Pattern(Declared):
    """A regular expression whose groups (?P<question>…) and (?P<answer>…) are what a text asks and answers."""

    pattern: str = Field(min_length=1, max_length=LONGEST_PATTERN)
    answer_type: str = Field(description="of all its answers: docs/own-data.md")
    wordings: list[str] = Field(
        min_length=1, description="of the question; {treatise}, {fascicle} and {question} mark where these go"
    )
    separator: str | None = Field(default=None, min_length=1, description="between the items of a list: ', '")
    answers: dict[str, bool | int | str] = Field(
        default_factory=dict, description="what the text says → the answer: {Aye: true, No: false}; others are left out"
    )

    @field_validator("pattern")
    @classmethod
    def has_its_groups(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a regular expression ({error})") from None
        for group in GROUPS:
            if group not in groups:
                raise ValueError(f"no group (?P<{group}>…): it must say what is the question and what the answer")
        return pattern

    @field_validator("wordings")
    @classmethod
    def say_the_question(cls, wordings: list[str]) -> list[str]:
        for wording in wordings:
            if "{question}" not in wording:
                raise ValueError(f"{wording!r} has no {{question}}: what would be asked?")
        return wordings


class ExtractingParams(Declared):
    """params/extracting.yaml."""

    patterns: dict[Name, Pattern] = Field(default_factory=dict)

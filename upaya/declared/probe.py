"""How a policy is probed."""

from typing import Self

from pydantic import Field, model_validator

from upaya.declared.validation import MOST, Declared, Size


class Probe(Declared):
    """How a policy is probed, and from which shares on which curriculum is recommended (upaya/probe.py)."""

    questions: Size
    samples: int = Field(gt=1, le=MOST, description="completions per question, drawn twice: to predict and to observe")
    group_sizes: list[Size] = Field(min_length=1)
    strict: str = "strict"
    lenient: str = "lenient"
    enough_live: float = Field(gt=0, le=1, description="share of live groups from which a regime has enough to learn")
    top: Size = Field(description="a gold token outside the sampler's likeliest so many is out of reach")
    out_of_reach: float = Field(gt=0, le=1, description="share of such tokens from which on more pre-training is due")

    missing_below: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="a skill right in fewer questions, in any of their samples, is out of reach",
    )

    @model_validator(mode="after")
    def groups_fit(self) -> Self:
        if max(self.group_sizes) > self.samples:
            raise ValueError(f"a group of {max(self.group_sizes)} needs at least as many samples")
        return self

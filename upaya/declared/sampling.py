"""How completions are drawn."""

from pydantic import Field

from upaya.declared.validation import Declared


class SamplingParams(Declared):
    """How tokens are drawn. Temperature 0 is greedy decoding."""

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, description="0: no limit")
    min_p: float = Field(default=0.0, ge=0, lt=1)
    max_new_tokens: int = Field(default=64, gt=0)


ROWS_AT_ONCE = 512  # completions decoded side by side
GREEDY = SamplingParams(temperature=0.0)

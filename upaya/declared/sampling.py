"""How completions are drawn."""

from pydantic import Field

from upaya.declared.validation import Declared, Size


class SamplingParams(Declared):
    """How tokens are drawn. Temperature 0 is greedy decoding."""

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, description="0: no limit")
    min_p: float = Field(default=0.0, ge=0, lt=1)
    max_new_tokens: Size = 64

    @property
    def truncates(self) -> bool:
        """Whether some tokens cannot be drawn though they have a probability."""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0

    def changed(self, change: "SamplingChange | None") -> "SamplingParams":
        return self.model_copy(update=change.model_dump(exclude_none=True)) if change else self


class SamplingChange(Declared):
    """What one policy draws otherwise while it is trained."""

    temperature: float | None = Field(default=None, gt=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, lt=1)


ROWS_AT_ONCE = 512  # completions decoded side by side
PLAIN = SamplingParams()
GREEDY = SamplingParams(temperature=0.0)

"""Which questions a policy is trained, measured and evaluated on."""

from typing import Annotated

from pydantic import Field

from upaya.declared.validation import Declared


class Selection(Declared):
    """Questions of these kinds, and of these difficulties where the key is given."""

    kinds: list[str] = Field(min_length=1)
    difficulty: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1)

    def holds(self, kind: str, difficulty: int) -> bool:
        return kind in self.kinds and (self.difficulty is None or difficulty in self.difficulty)

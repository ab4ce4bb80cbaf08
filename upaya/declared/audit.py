"""params/audit.yaml: what a hack may earn."""

from pydantic import Field

from upaya.declared.validation import Declared, Size


class Limits(Declared):
    """What a degenerate completion may earn on average, as a share of the regime's maximum."""

    ignorant: float = Field(ge=0, le=1)
    near: float = Field(ge=0, le=1)


class AuditParams(Declared):
    """params/audit.yaml."""

    questions: Size
    default: Limits
    limits: dict[str, Limits] = Field(default_factory=dict)

"""Reward regimes: declared weighted sums of components, with penalties where errors are punished."""

from pathlib import Path

from pydantic import Field, field_validator

from upaya.answers import Completion
from upaya.errors import nearest
from upaya.files import fingerprint
from upaya.questions import Question
from upaya.rewards.components import COMPONENTS, exact
from upaya.validation import Declared, load_yaml

FILE = Path("params/regimes.yaml")


class Part(Declared):
    """A component in a regime."""

    weight: float = Field(ge=0)
    saturates_at: float = Field(default=1.0, gt=0, le=1, description="from this value on it counts as 1")


class Penalties(Declared):
    """What is subtracted from completions that are not exactly right; graded, malformed the worse."""

    malformed: float = Field(default=0.0, ge=0)
    wrong: float = Field(default=0.0, ge=0)


class Regime(Declared):
    """score = max(floor, Σ weight · min(1, component / saturates_at) − penalty)."""

    components: dict[str, Part] = Field(min_length=1)
    penalties: Penalties = Penalties()
    floor: float = 0.0

    @field_validator("components")
    @classmethod
    def components_exist(cls, components: dict[str, Part]) -> dict[str, Part]:
        for name in components:
            if name not in COMPONENTS:
                raise ValueError(f"unknown component {name!r}; {nearest(name, COMPONENTS)}")
        if not any(part.weight for part in components.values()):
            raise ValueError("every weight is 0: this regime rewards nothing")
        return components

    @property
    def maximum(self) -> float:
        return sum(part.weight for part in self.components.values())

    @property
    def digest(self) -> str:
        """A short hash of the declaration: which definition a history was measured under."""
        return fingerprint(self.model_dump())

    def score(self, completion: Completion, question: Question) -> float:
        """The reward of one completion, from `floor` to `maximum`; finite for any string."""
        reward = 0.0
        for name, part in self.components.items():
            reward += part.weight * min(1.0, COMPONENTS[name](completion, question) / part.saturates_at)
        if not completion.well_formed:
            reward -= self.penalties.malformed
        elif not exact(completion, question):
            reward -= self.penalties.wrong
        return max(self.floor, reward)


class RegimesFile(Declared):
    regimes: dict[str, Regime] = Field(min_length=1)


def load_regimes(path: Path = FILE) -> dict[str, Regime]:
    """The declared regimes by name."""
    return load_yaml(path, RegimesFile).regimes

"""Reward regimes: declared weighted sums of components, with penalties where errors are punished.

A group of completions is compared with its own mean, so only differences between rewards count. A regime that knows two
values only gains nothing by a penalty: the mean cancels it. To punish, it needs a third level (malformed < wrong <
right), which also makes groups without any right completion tellable apart.
"""

import random
from collections.abc import Mapping
from functools import cached_property

from pydantic import Field, field_validator

from upaya.answers import Completion, parse, render
from upaya.errors import UserError
from upaya.files import fingerprint
from upaya.questions import Question
from upaya.rewards.components import component, exact
from upaya.rewards.specimens import TYPICAL, degenerate, perturbed
from upaya.validation import Declared


class Part(Declared):
    """A component in a regime."""

    weight: float = Field(ge=0)
    saturates_at: float = Field(default=1.0, gt=0, le=1, description="from this value on it counts as 1")


class Penalties(Declared):
    """What is subtracted from completions that are not exactly right. Graded: malformed or else wrong, and on top of
    either over-long (an answer of more than `over_long_from` times the right one's characters)."""

    malformed: float = Field(default=0.0, ge=0)
    wrong: float = Field(default=0.0, ge=0)
    over_long: float = Field(default=0.0, ge=0)
    over_long_from: float = Field(default=2.0, ge=1)


class Regime(Declared):
    """The maximum for what is exactly right in the right form, else
    max(floor, Σ weight · min(1, component / saturates_at) − penalties)."""

    components: dict[str, Part] = Field(min_length=1)
    penalties: Penalties = Penalties()
    floor: float = 0.0

    @field_validator("components")
    @classmethod
    def components_exist(cls, components: dict[str, Part]) -> dict[str, Part]:
        for name in components:
            component(name)
        if not any(part.weight for part in components.values()):
            raise ValueError("every weight is 0: this regime rewards nothing")
        return components

    @cached_property
    def maximum(self) -> float:
        return sum(part.weight for part in self.components.values())

    @cached_property
    def digest(self) -> str:
        """A short hash of the declaration: which definition a history was measured under."""
        return fingerprint(self.model_dump())

    def score(self, completion: Completion, question: Question) -> float:
        """The reward of one completion, from `floor` to `maximum`; finite for any string."""
        return self.combine({name: component(name)(completion, question) for name in self.components},
                            completion, question)  # fmt: skip

    def combine(self, values: Mapping[str, float], completion: Completion, question: Question) -> float:
        """The reward of one completion whose components are already known."""
        if exact(completion, question):
            return self.maximum
        reward = 0.0
        for name, part in self.components.items():
            reward += part.weight * min(1.0, values[name] / part.saturates_at)
        reward -= self.penalties.wrong if completion.well_formed else self.penalties.malformed
        if len(completion.answer or "") > self.penalties.over_long_from * len(render(question.answer)):
            reward -= self.penalties.over_long
        return max(self.floor, reward)

    # --- what a declaration means ---------------------------------------------------------------------------------

    def ties(self) -> list[str]:
        """Wrong completions that earn as much as a right one, in words, on a typical question of each answer type."""
        found = []
        for question in TYPICAL:
            specimens = [(specimen.name, specimen.text) for specimen in degenerate(question, TYPICAL)]
            for errors, text in perturbed(question, TYPICAL, random.Random(0))[1:]:
                specimens.append((f"{errors} of {_size(question)} wrong", text))
            for name, text in specimens:
                if self.score(parse(text), question) >= self.maximum - 1e-9:
                    found.append(f"{question.answer_type.replace('_', ' ')}: {name}")
        return found

    def levels(self) -> int:
        """How many different rewards the specimens of typical questions earn, the right answer's included."""
        scores = {self.maximum}
        for question in TYPICAL:
            texts = [specimen.text for specimen in degenerate(question, TYPICAL)]
            texts += [text for _, text in perturbed(question, TYPICAL, random.Random(0))]
            scores |= {round(self.score(parse(text), question), 9) for text in texts}
        return len(scores)

    @property
    def declares_saturation(self) -> bool:
        return any(part.saturates_at < 1 for part in self.components.values() if part.weight)


def _size(question: Question) -> str:
    return f"{len(question.answer)} items" if isinstance(question.answer, list) else render(question.answer)


def check(name: str, regime: Regime, where: str) -> str | None:
    """Hold a regime to its promise that nothing wrong earns as much as what is right.

    Returns a sentence that says from where on it saturates, for a regime that declares saturation and does tie.

    Raises UserError where one ties without having declared it.
    """
    ties = regime.ties()
    if not ties:
        return None
    if regime.declares_saturation:
        return f"regime {name} saturates: as much as a right answer earns {_briefly(ties)}"
    raise UserError(
        f"{where}: key '{name}': a wrong completion earns as much as a right one ({_briefly(ties)}). Give weight to a "
        "component that tells them apart (exact, positions, format), or a penalty, or declare `saturates_at`."
    )


def _briefly(ties: list[str], most: int = 4) -> str:
    return "; ".join(ties[:most]) + (f"; and {len(ties) - most} more" if len(ties) > most else "")

"""params/regimes.yaml: reward regimes, and schedules: several regimes in one stage, whose rewards share what the policy
is trained on.

A schedule refers to the regimes that it is made of by YAML's own `*name`, so that DVC, which reads the same file, sees
a schedule change when one of its regimes does.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from upaya.declared.validation import MOST, Amount, Declared, Name, load_yaml
from upaya.errors import nearest
from upaya.files import fingerprint
from upaya.paths import REGIMES


class Part(Declared):
    """A component in a regime."""

    weight: Amount
    saturates_at: float = Field(default=1.0, gt=0, le=1, description="from this value on it counts as 1")


class Penalties(Declared):
    """What is subtracted from completions that are not exactly right. Graded: malformed or else wrong, and on top of
    either over-long (an answer of more than `over_long_from` times the right one's characters)."""

    malformed: Amount = 0.0
    wrong: Amount = 0.0
    over_long: Amount = 0.0
    over_long_from: float = Field(default=2.0, ge=1)


class Hints(Declared):
    """The first items of the right answer, given as the beginning of the completion (prefixes as hints:
    arXiv:2601.18779, arXiv:2602.03143, arXiv:2604.07747). Their number falls from `items` to 0 as the strict success of
    the last `window` steps rises from 0 to `gone_at`, and never rises again. A stage does not hand over before."""

    items: int = Field(default=0, ge=0)
    gone_at: float = Field(default=0.3, gt=0, le=1)
    window: int = Field(default=10, gt=0)


class Regime(Declared):
    """The maximum for what is exactly right in the right form, else
    max(floor, Σ weight · min(1, component / saturates_at) − penalties).

    `punishment` and `credit` say what the policy is told of its rewards. A floor of 0 alone is no mercy: the group's
    mean is the baseline, and whatever lies below it is made less likely, which at the start is nearly every mistake
    worth making. Negative advantages are multiplied by `punishment`: 0 encourages only, 1 is GRPO as it is. (A lower
    baseline does the like for all: AsymRE, arXiv:2506.20520; AsymGRPO, arXiv:2604.04894, weighs both signs.)

    `entropy` is what a nat of the policy's entropy is worth (Mnih et al. 2016, A3C, arXiv:1602.01783, §4.1) in what no
    completion of the group has right: what was not found yet is not settled. A token is open enough at half a nat:
    more is worth nothing. With `credit: item` these are single items, else whole completions. Where one of the group is
    right, its advantage says all.

    With `credit: item` the tokens of each item have the advantage of that item over the same item of the group's other
    completions (span credit: SCRL, arXiv:2605.22074), those of the form theirs, and what leads to the answer that of
    the whole (upaya/training/grpo/credit.py). Only the components that know items are taken apart; with one item it is
    the same as `completion`.
    """

    components: dict[str, Part] = Field(min_length=1)
    penalties: Penalties = Penalties()
    floor: float = Field(default=0.0, ge=-MOST, le=MOST)
    punishment: float = Field(default=1.0, ge=0, le=1, description="what negative advantages are multiplied by")
    entropy: Amount = Field(default=0.0, description="what a nat of entropy is worth where nothing is right yet")
    credit: Literal["completion", "item"] = "completion"
    hints: Hints = Hints()

    @field_validator("components")
    @classmethod
    def something_is_rewarded(cls, components: dict[str, Part]) -> dict[str, Part]:
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

    @property
    def declares_saturation(self) -> bool:
        return any(part.saturates_at < 1 for part in self.components.values() if part.weight)


class Annealed(Declared):
    """Weights move from one regime to another in a straight line over the stage's first `steps` steps."""

    type: Literal["annealed"]
    start: Regime
    end: Regime
    steps: int = Field(gt=0)

    @property
    def regimes(self) -> list[Regime]:
        return [self.start, self.end]


class Share(Declared):
    """One regime's part in a fixed blend."""

    regime: Regime
    weight: float = Field(gt=0, le=MOST)


class Mixed(Declared):
    """A fixed blend: the weighted mean of the regimes' rewards at every step."""

    type: Literal["mixed"]
    blend: list[Share] = Field(min_length=2)

    @property
    def regimes(self) -> list[Regime]:
        return [share.regime for share in self.blend]


class Ladder(Declared):
    """At every moment the strictest regime that still has enough live groups.

    The share counted is that of live groups among those not yet solved (a group that is all right is dead because it is
    learnt). It climbs when the next rung has `climb_at`, averaged over `window` steps of the same rollouts, and steps
    back when its own falls below `fall_at`: the gap between the two keeps it from swinging.
    """

    type: Literal["ladder"]
    rungs: list[Regime] = Field(min_length=2, description="from lenient to strict")
    climb_at: float = Field(gt=0, le=1)
    fall_at: float = Field(ge=0, lt=1)
    window: int = Field(default=10, gt=0)

    @model_validator(mode="after")
    def hysteresis(self) -> Self:
        if self.fall_at >= self.climb_at:
            raise ValueError("fall_at must be below climb_at, or the ladder swings at every step")
        return self

    @property
    def regimes(self) -> list[Regime]:
        return self.rungs


class PerGroup(Declared):
    """Each group under the first of the regimes under which it is live: strict where strict tells its completions
    apart, lenient only where it does not."""

    type: Literal["per_group"]
    prefer: list[Regime] = Field(min_length=2, description="from strict to lenient")

    @property
    def regimes(self) -> list[Regime]:
        return self.prefer


Schedule = Annealed | Mixed | Ladder | PerGroup


def _kind(data: Any) -> str:
    """Which of them a declaration is: what its `type` says, a plain regime has none."""
    if isinstance(data, Regime | Schedule):
        return getattr(data, "type", "regime")
    return str(data.get("type", "regime")) if isinstance(data, Mapping) else "regime"


Reward = Annotated[
    Annotated[Regime, Tag("regime")]
    | Annotated[Annealed, Tag("annealed")]
    | Annotated[Mixed, Tag("mixed")]
    | Annotated[Ladder, Tag("ladder")]
    | Annotated[PerGroup, Tag("per_group")],
    Discriminator(_kind),
]


class RegimesFile(Declared):
    """params/regimes.yaml.

    Attributes:
        measured: the regimes that every rollout is scored under, whichever is trained on, by their names in `regimes`.
            What they say is part of every history, so that a change to one of them makes every policy stale, and a
            change to any other makes only those stale that are trained on it.
    """

    regimes: dict[Name, Reward] = Field(min_length=1)
    measured: dict[Name, Regime] = Field(min_length=1)

    @model_validator(mode="after")
    def names_agree(self) -> Self:
        for name, regime in self.measured.items():
            if name not in self.plain:
                raise ValueError(f"measured: {name!r} is none of the regimes; {nearest(name, self.plain)}")
            if self.plain[name] != regime:
                raise ValueError(
                    f"measured.{name} differs from regimes.{name}: write `{name}: &{name}` there and `{name}: *{name}` "
                    "here"
                )
        for name, reward in self.regimes.items():
            scored_regimes(name, reward, self.measured)
        return self

    @property
    def plain(self) -> dict[str, Regime]:
        """All but the schedules."""
        return {name: reward for name, reward in self.regimes.items() if isinstance(reward, Regime)}


def scored_regimes(name: str, reward: Regime | Schedule, measured: Mapping[str, Regime]) -> dict[str, Regime]:
    """The regimes that rollouts are scored under where `name` is trained on: those measured, and itself.

    Raises ValueError where a schedule is made of a regime that is not measured.
    """
    if isinstance(reward, Regime):
        return {**measured, name: reward}
    names_in(reward, measured, name)
    return dict(measured)


def names_in(schedule: Schedule, measured: Mapping[str, Regime], where: str) -> list[str]:
    """The names of a schedule's regimes in its own order. Raises ValueError where one is not measured."""
    names = []
    for regime in schedule.regimes:
        name = next((name for name, declared in measured.items() if declared == regime), None)
        if name is None:
            raise ValueError(
                f"regimes.{where}: a schedule is made of regimes that stand under `measured`; write `lenient: "
                "&lenient` where the regime is declared, and `*lenient` both here and there"
            )
        names.append(name)
    return names


def read_regimes(path: Path = REGIMES) -> RegimesFile:
    """What the file says; upaya.rewards.regimes.load_regimes also asks whether the components exist and do as they
    promise."""
    return load_yaml(path, RegimesFile)

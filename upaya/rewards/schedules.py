"""Several regimes in one stage: how their rewards share what the policy is trained on, from step to step.

A schedule stands in params/regimes.yaml beside the regimes it is made of and refers to them by YAML's own `*name`, so
that DVC, which reads the same file, sees a schedule change when one of its regimes does.
"""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Discriminator, Field, Tag, model_validator
from torch import Tensor

from upaya.errors import UserError
from upaya.grpo.advantages import is_live
from upaya.rewards.regimes import Regime, check
from upaya.validation import Declared, Name, load_yaml

FILE = Path("params/regimes.yaml")


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
    weight: float = Field(gt=0)


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
    """params/regimes.yaml."""

    regimes: dict[Name, Reward] = Field(min_length=1)

    @model_validator(mode="after")
    def schedules_are_made_of_named_regimes(self) -> Self:
        for name, reward in self.regimes.items():
            if not isinstance(reward, Regime):
                names_in(reward, self.plain, name)
        if not self.plain:
            raise ValueError("holds schedules only; declare the regimes that they are made of")
        return self

    @property
    def plain(self) -> dict[str, Regime]:
        """The regimes that every rollout is scored under: all but the schedules."""
        return {name: reward for name, reward in self.regimes.items() if isinstance(reward, Regime)}

    def saturations(self, name: str) -> list[str]:
        """From where on the regimes that a regime or schedule is made of saturate, in words."""
        reward = self.regimes[name]
        parts = [name] if isinstance(reward, Regime) else names_in(reward, self.plain, name)
        return [said for part in parts if (said := check(part, self.plain[part], str(FILE)))]


def names_in(schedule: Schedule, plain: Mapping[str, Regime], where: str) -> list[str]:
    """The names of a schedule's regimes in its own order."""
    found = []
    for regime in schedule.regimes:
        name = next((name for name, declared in plain.items() if declared == regime), None)
        if name is None:
            raise ValueError(
                f"{where}: a schedule is made of regimes declared beside it; write `lenient: &lenient` where the "
                "regime stands and `*lenient` here"
            )
        found.append(name)
    return found


def load_regimes(path: Path = FILE) -> RegimesFile:
    """The declared regimes and schedules, each regime held to its promise that nothing wrong earns as much as right."""
    file = load_yaml(path, RegimesFile)
    for name, regime in file.plain.items():
        check(name, regime, str(path))
    return file


# --- at work --------------------------------------------------------------------------------------------------------


class Rewarding:
    """What a stage trains on, step by step, with the state that a checkpoint needs.

    Attributes:
        event: the change of regime that the last step brought about, where a schedule changes on its own.
    """

    def __init__(self, reward: Regime | Schedule, name: str, plain: Mapping[str, Regime]) -> None:
        self.reward, self.name = reward, name
        self.names = [name] if isinstance(reward, Regime) else names_in(reward, plain, name)
        self.event: dict[str, Any] | None = None
        self.rung = 0
        self._live: dict[str, deque[float]] = {
            each: deque(maxlen=reward.window if isinstance(reward, Ladder) else 1) for each in self.names
        }

    def rewards(self, step: int, rewards_PG: Mapping[str, Tensor], solved_P: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The rewards to train on, [P, G], and the weight that each regime has in them (they add up to 1).

        Args:
            step: steps taken in this stage before this one.
            rewards_PG: regime name → rewards of this step's rollouts.
            solved_P: bool [P], groups whose completions are all exactly right.
        """
        self.event = None
        match self.reward:
            case Annealed(steps=steps):
                moved = min(1.0, step / steps)
                if step == steps:
                    self.event = self._changed(self.names[0], self.names[1], f"annealed over {steps} steps", None)
                return self._blend(rewards_PG, [1 - moved, moved])
            case Mixed(blend=blend):
                return self._blend(rewards_PG, [share.weight for share in blend])
            case Ladder():
                name = self.names[self.rung]
                self._climb_or_fall(rewards_PG, solved_P, self.reward)
                return rewards_PG[name], {each: float(each == name) for each in self.names}
            case PerGroup():
                return self._per_group(rewards_PG)
        return rewards_PG[self.name], {self.name: 1.0}

    def _blend(self, rewards_PG: Mapping[str, Tensor], weights: list[float]) -> tuple[Tensor, dict[str, float]]:
        shares = [weight / sum(weights) for weight in weights]
        mixed = torch.stack([share * rewards_PG[name] for name, share in zip(self.names, shares, strict=True)]).sum(0)
        return mixed, dict(zip(self.names, shares, strict=True))

    def _per_group(self, rewards_PG: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        chosen = rewards_PG[self.names[-1]].clone()
        by = torch.full((len(chosen),), len(self.names) - 1)
        for place in reversed(range(len(self.names) - 1)):
            live = is_live(rewards_PG[self.names[place]])
            chosen[live] = rewards_PG[self.names[place]][live]
            by[live] = place
        return chosen, {name: (by == place).double().mean().item() for place, name in enumerate(self.names)}

    def _climb_or_fall(self, rewards_PG: Mapping[str, Tensor], solved_P: Tensor, ladder: Ladder) -> None:
        """Decide on the rung of the next step."""
        open_groups = max(1, int((~solved_P).sum()))
        for name in self.names:
            self._live[name].append(float((is_live(rewards_PG[name]) & ~solved_P).sum()) / open_groups)
        shares = [sum(self._live[name]) / len(self._live[name]) for name in self.names]
        if len(self._live[self.names[0]]) < ladder.window:
            return
        here, over = self.rung, f"live share of unsolved groups over {ladder.window} steps"
        if here + 1 < len(self.names) and shares[here + 1] >= ladder.climb_at:
            self.rung, condition = here + 1, f"{over} under {self.names[here + 1]} ≥ {ladder.climb_at:g}"
        elif here > 0 and shares[here] < ladder.fall_at:
            self.rung, condition = here - 1, f"{over} under {self.names[here]} < {ladder.fall_at:g}"
        else:
            return
        value = shares[max(here, self.rung)]
        self.event = self._changed(self.names[here], self.names[self.rung], condition, round(value, 6))
        for seen in self._live.values():  # the next decision waits for a window of its own
            seen.clear()

    def _changed(self, before: str, after: str, condition: str, value: float | None) -> dict[str, Any]:
        return {"event": "switch", "from": before, "to": after, "condition": condition, "value": value}

    def state_dict(self) -> dict[str, Any]:
        return {"rung": self.rung, "live": {name: list(seen) for name, seen in self._live.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["live"].keys() != self._live.keys():
            raise UserError(f"{self.name}: the checkpoint's regimes are {list(state['live'])}, not {self.names}")
        self.rung = state["rung"]
        for name, values in state["live"].items():
            self._live[name] = deque(values, maxlen=self._live[name].maxlen)

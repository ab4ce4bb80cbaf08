"""What a GRPO stage trains on, step by step: one regime, or several that share it by a schedule."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from upaya.declared.regimes import (
    Annealed,
    Hints,
    Ladder,
    Mixed,
    PerGroup,
    Regime,
    Schedule,
    names_in,
)
from upaya.errors import UserError
from upaya.training.grpo.credit import Earned


class Rewarding:
    """What a stage trains on, step by step, with the state that a checkpoint needs.

    Attributes:
        event: the change of regime that the last step brought about, where a schedule changes on its own.
    """

    def __init__(self, reward: Regime | Schedule, name: str, measured: Mapping[str, Regime]) -> None:
        self.reward, self.name = reward, name
        self.names = [name] if isinstance(reward, Regime) else names_in(reward, measured, name)
        self.event: dict[str, Any] | None = None
        self.rung = 0
        self._live: dict[str, deque[float]] = {
            each: deque(maxlen=reward.window if isinstance(reward, Ladder) else 1) for each in self.names
        }

    @property
    def hints(self) -> Hints:
        """What is given of the right answers: as the regime says, of a schedule the first of its regimes."""
        return self.reward.hints if isinstance(self.reward, Regime) else self.reward.regimes[0].hints

    def trained(self, step: int, earned: Mapping[str, Earned], solved_P: Tensor) -> tuple[Earned, dict[str, float]]:
        """What to train on, and the weight that each regime has in it (they add up to 1).

        Args:
            step: steps taken in this stage before this one.
            earned: regime name → what this step's rollouts have earned.
            solved_P: bool [P], groups whose completions are all exactly right.
        """
        self.event = None
        match self.reward:
            case Annealed(steps=steps):
                moved = min(1.0, step / steps)
                if step == steps:
                    self.event = self._changed(self.names[0], self.names[1], f"annealed over {steps} steps", None)
                return self._blend(earned, [1 - moved, moved])
            case Mixed(blend=blend):
                return self._blend(earned, [share.weight for share in blend])
            case Ladder():
                name = self.names[self.rung]
                self._climb_or_fall(earned, solved_P, self.reward)
                return earned[name], {each: float(each == name) for each in self.names}
            case PerGroup():
                return self._per_group(earned)
        return earned[self.name], {self.name: 1.0}

    def _blend(self, earned: Mapping[str, Earned], weights: list[float]) -> tuple[Earned, dict[str, float]]:
        shares = [weight / sum(weights) for weight in weights]
        mixed = Earned.blended([earned[name] for name in self.names], shares)
        return mixed, dict(zip(self.names, shares, strict=True))

    def _per_group(self, earned: Mapping[str, Earned]) -> tuple[Earned, dict[str, float]]:
        parts = [earned[name] for name in self.names]
        by = torch.full((len(parts[0].rewards_PG),), len(parts) - 1)
        for place in reversed(range(len(parts) - 1)):
            by[parts[place].live_P] = place
        weights = {name: (by == place).double().mean().item() for place, name in enumerate(self.names)}
        return Earned.chosen(parts, by), weights

    def _climb_or_fall(self, earned: Mapping[str, Earned], solved_P: Tensor, ladder: Ladder) -> None:
        """Decide on the rung of the next step."""
        open_groups = max(1, int((~solved_P).sum()))
        for name in self.names:
            self._live[name].append(float((earned[name].live_P & ~solved_P).sum()) / open_groups)
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

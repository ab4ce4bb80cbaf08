"""How completions are drawn and judged when a policy is measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from upaya.declared.regimes import Regime
from upaya.declared.sampling import SamplingParams


@dataclass(frozen=True)
class Setting:
    """What evaluation and probe share.

    Attributes:
        group_size: of the training that is looked back on or decided on.
    """

    regimes: Mapping[str, Regime]
    sampling: SamplingParams
    group_size: int
    seed: int

"""The warm-up: SFT until a score is reached."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from upaya.declared.model import Optimiser, RateSchedule
from upaya.declared.selection import Selection
from upaya.declared.validation import Declared, Size


class UntilScore(Declared):
    """When warm-up stops: sampled completions on validation questions reach a mean score under a regime."""

    regime: str
    score: float = Field(gt=0, le=1, description="share of the regime's maximum")
    worst: float = Field(default=0.0, ge=0, le=1, description="that every single skill has to reach as well")
    every: int = Field(gt=0, description="steps between measurements")
    questions: Size
    samples: Size

    def is_reached(self, score: float, skills: Mapping[str, float]) -> bool:
        """Args: skills: of each, how often it was right."""
        return score >= self.score and min(skills.values()) >= self.worst


class Warmup(Declared):
    """Supervised fine-tuning on question → completion, loss on the completion only.

    `questions`: what it teaches, where that is not what the policies are trained on; it is measured on the latter.
    `answers`: `right`, the right ones; or `drawn`, each item at random from all that may be said there. That teaches
    the form and the label space without a single label, as the random labels of Min et al. 2022 (arXiv:2202.12837) do
    in a prompt: whatever is right afterwards has been learnt from reward alone. With `consistent` that share of the
    draws is one and the same wherever a skill is asked of the same subject (what the question's reasoning names): still
    nothing but chance, and the policy learns to look at what is asked, which rewards then need not teach (Maennel et
    al. 2020, arXiv:2006.10455: what is learnt from random labels speeds up learning from right ones).
    """

    questions: Selection | None = None
    answers: Literal["right", "drawn"] = "right"
    consistent: float = Field(default=0.0, ge=0, lt=1, description="share of drawn items that a subject always has")
    max_steps: int = Field(gt=0)
    batch_size: Size
    tokens_per_micro_batch: int = Field(default=16384, gt=0)
    optimiser: Optimiser
    schedule: RateSchedule = RateSchedule(warm_up=20)
    until: UntilScore

"""reports/probe/: what a policy could learn from, and which curriculum that recommends."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from upaya.declared.validation import Declared
from upaya.files import write_json
from upaya.paths import PROBE
from upaya.records.naming import need_name
from upaya.records.reading import read_file

SUCCESS = "success"  # in a report's groups: live is what holds both right and wrong completions

Choice = Literal["start strict", "start lenient", "warm up longer", "more pre-training"]


class Estimate(Declared):
    """A mean over questions with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1%} [{self.low:.1%}, {self.high:.1%}]"


class Dead(Declared):
    """Share of dead groups of one size under one regime: predicted from one draw of samples, seen in another."""

    predicted: Estimate
    observed: Estimate


class Reach(Declared):
    """How far the right answers are from what the policy says, with the gold completion given token by token.

    `log_probability` is per token in nats; `out_of_reach` is the share of tokens outside the sampler's likeliest `top`.
    `answer` counts the tokens between the answer tags only: what is left when the form is given.
    """

    log_probability: float
    out_of_reach: Estimate
    answer_log_probability: float
    answer_out_of_reach: Estimate


class Skill(Declared):
    """What is sampled of one skill, over the questions that need it.

    Attributes:
        success: how often the item is right.
        pass_at_k: share of questions for which it is right at least once among the k samples: what is never sampled is
            never learnt, however often the others are right.
    """

    success: Estimate
    pass_at_k: Estimate


class Recommendation(Declared):
    choice: Choice
    text: str


Key = Annotated[int, Field(strict=False)]  # JSON has words as keys


class Report(Declared):
    """What a probe found.

    Attributes:
        dead: regime → group size → shares; beside the regimes stands `success`.
        missing: the skills that are out of the samples' reach.
    """

    policy: str
    questions: int
    samples: int
    group_size: int
    format_rate: Estimate
    pass_at: dict[Key, Estimate]
    dead: dict[str, dict[Key, Dead]]
    reach: Reach
    skills: dict[str, Skill]
    missing: list[str]
    recommendation: Recommendation

    @model_validator(mode="after")
    def trained_size_is_reported(self) -> Self:
        if wrong := [regime for regime, sizes in self.dead.items() if self.group_size not in sizes]:
            raise ValueError(f"dead.{wrong[0]}: nothing of groups of {self.group_size}")
        return self

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))


def report_path(policy: str) -> Path:
    return PROBE / f"{policy}.json"


def probe_of(policy: str) -> Report:
    """Raises UserError where the policy is not probed, or the file is damaged or another policy's."""
    path, maker = report_path(policy), f"`dvc repro probe@{policy}`"
    report = read_file(path, Report, maker)
    need_name(path, "policy", Path(report.policy).name, policy, maker)  # a model's folder is named by its path
    return report

"""What a probe found, as it stands in reports/probe/."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field
from rich.table import Table

from upaya.declared.validation import Declared, validated
from upaya.files import read_json, write_json
from upaya.measuring.statistics import interval
from upaya.paths import PROBE
from upaya.terminal import console

SUCCESS = "success"  # in a report's groups: live is what holds both right and wrong completions

RESAMPLES = 2000
SHOWN = 5  # skills

Choice = Literal["start strict", "start lenient", "warm up longer", "more pre-training"]


class Estimate(Declared):
    """A mean over questions with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float], seed: int) -> Self:
        low, high = interval(values, RESAMPLES, seed)
        return cls(mean=round(sum(values) / len(values), 6), low=round(low, 6), high=round(high, 6))

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

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        return validated(cls, read_json(path), str(path))


def report_path(policy: str) -> Path:
    return PROBE / f"{policy}.json"


def show(report: Report) -> None:
    """Print a report."""
    table = Table(title=f"probe of {report.policy}: {report.questions} questions, {report.samples} samples each, twice")
    table.add_column("dead groups under")
    sizes = list(next(iter(report.dead.values())))
    for size in sizes:
        table.add_column(f"G = {size}: predicted\nobserved")
    for regime, by_size in report.dead.items():
        name = "right or wrong only" if regime == SUCCESS else regime
        table.add_row(name, *(f"{by_size[size].predicted}\n{by_size[size].observed}" for size in sizes))
    console.print(table, soft_wrap=False)
    console.print("  ".join(f"pass@{k} {estimate}" for k, estimate in report.pass_at.items()))
    console.print(f"format rate {report.format_rate}")
    reach = report.reach
    console.print(
        f"reach: gold completion {reach.log_probability:.2f} nats a token, {reach.out_of_reach} of its tokens out of "
        f"reach; its answer {reach.answer_log_probability:.2f} nats a token, {reach.answer_out_of_reach} out of reach"
    )
    weakest = sorted(report.skills.items(), key=lambda pair: pair[1].pass_at_k.mean)[:SHOWN]
    console.print(
        f"weakest of {len(report.skills)} skills (right among {report.samples} samples, right in a sample): "
        + ", ".join(f"{name} {skill.pass_at_k.mean:.0%}, {skill.success.mean:.1%}" for name, skill in weakest)
    )
    if report.missing:
        console.print(
            f"out of reach: {', '.join(report.missing)}: hardly ever right in any of {report.samples} samples. Warm up "
            "until the worst skill is within reach (warmup.until.worst)."
        )
    console.print(f"recommendation: {report.recommendation.text}")

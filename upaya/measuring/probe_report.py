"""What a probe found, in words; and how it estimates."""

from collections.abc import Sequence

from rich.table import Table

from upaya.measuring.statistics import interval
from upaya.records.probes import SUCCESS, Estimate, Report
from upaya.terminal import console

RESAMPLES = 2000
SHOWN = 5  # skills


def over(values: Sequence[float], seed: int) -> Estimate:
    """The mean over questions with its 95 % interval."""
    low, high = interval(values, RESAMPLES, seed)
    return Estimate(mean=round(sum(values) / len(values), 6), low=round(low, 6), high=round(high, 6))


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

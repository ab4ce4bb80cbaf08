"""All arms side by side: a table and a figure, from what their evaluations wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field
from rich.table import Table

from upaya.declared.selection import Selection
from upaya.declared.validation import Declared
from upaya.errors import UserError
from upaya.files import replacing, write_json
from upaya.measuring.curves import smoothed
from upaya.measuring.statistics import bootstrapped, interval
from upaya.paths import ARMS, COMPARISON
from upaya.records.comparisons import Check, Compared, Row, comparison
from upaya.records.evaluations import Point, curve_of, details_of, greedy_of
from upaya.records.naming import need_name
from upaya.records.policies import START, line_of, provenance
from upaya.records.probes import Report
from upaya.records.reading import read_file
from upaya.terminal import console

RESAMPLES = 2000
MILESTONE = 0.2  # strict success in rollouts whose first passing is noted
FIRST_STEPS = (10, 100)  # the policy moves while it is watched: the fewer steps, the nearer to what was probed
END = 20  # steps at the end of a run over which its last state is averaged


class Arm(Declared):
    """One arm of a comparison, as reports/arms/<policy>.json holds it.

    Attributes:
        row: what stands in the table.
        right: question id → whether the greedy completion was exactly right.
        curve: the rows of its curve.csv, numbers as numbers and empty cells as None.
        starts_from: the policy that its first stage of GRPO trains.
        same_questions: whether that stage trains on the questions that policies are probed with.
    """

    row: Row
    right: Annotated[dict[str, bool], Field(min_length=1)]
    curve: Annotated[list[Point], Field(min_length=1)]
    starts_from: str
    same_questions: bool


def write_arm(name: str, questions: Selection) -> None:
    """reports/arms/<policy>.json. Args: questions: those that policies are probed with.

    Raises UserError where the policy is not built or not evaluated.
    """
    line = line_of(name)
    if name in START:
        raise UserError(f"{name} is no arm: arms are trained by GRPO")
    first, curve = provenance(line[len(START)]), curve_of(name)
    arm = Arm(
        row=_row(name, details_of(name), curve),
        right={identity: sample["exact"] for identity, sample in greedy_of(name).items()},
        curve=curve,
        starts_from=str(first["parent"]),
        same_questions=first["questions"] == questions,
    )
    write_json(ARMS / f"{name}.json", arm.model_dump(mode="json"))


def read_arm(name: str) -> Arm:
    """Raises UserError where the arm's file is missing, damaged or another arm's."""
    path, maker = ARMS / f"{name}.json", f"`dvc repro arm@{name}`"
    arm = read_file(path, Arm, maker)
    need_name(path, "row.arm", arm.row["arm"], name, maker)
    return arm


def compare(arms: Sequence[Arm]) -> list[Compared]:
    """One row per arm, the best first. Differences are paired by question with the best arm's.

    Raises UserError where two arms were evaluated on different questions.
    """
    ordered = sorted(arms, key=lambda arm: -arm.row["strict_accuracy"])
    best = ordered[0]
    rows: list[Compared] = []
    for arm in ordered:
        if arm.right.keys() != best.right.keys():
            raise UserError(
                f"{_file(arm)} holds answers to other questions than {_file(best)}: one was evaluated before the "
                "questions changed. `make compare` evaluates both on the same"
            )
        differences = [float(arm.right[key]) - float(best.right[key]) for key in sorted(best.right)]
        low, high = bootstrapped(differences, RESAMPLES, arm.row["seed"])
        behind = round(sum(differences) / len(differences), 6)
        rows.append(Compared(**arm.row, behind_best=behind, behind_best_interval=[round(low, 6), round(high, 6)]))
    return rows


def _file(arm: Arm) -> str:
    return str(ARMS / f"{arm.row['arm']}.json")


def _row(name: str, metrics: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]) -> Row:
    passed = [
        step for step, success in zip(curve, smoothed([step["success"] for step in curve]), strict=True)
        if success >= MILESTONE
    ]  # fmt: skip
    prices = [step["trained_rewarded_wrong"] for step in curve if step["trained_rewarded_wrong"] is not None]
    last = curve[-END:]
    row = {
        "arm": name,
        **{key: metrics[key] for key in ("strict_accuracy", "strict_accuracy_interval", "seed")},
        **{key: metrics[key] for key in ("pass_at_8", "format_rate") if key in metrics},
        "total_steps": metrics["total_steps"],
        "generated_tokens": metrics["generated_tokens"],
        "tokens_to_milestone": passed[0]["generated_tokens"] if passed else None,
        "rewarded_wrong": round(sum(prices) / len(prices), 6) if prices else None,
        "end_entropy": round(sum(step["entropy"] for step in last) / len(last), 6),
        "end_success": round(sum(step["success"] for step in last) / len(last), 6),
        "switches": [{"step": step["step"], "to": step["switch"]} for step in curve if step["switch"]],
    }
    return cast(Row, row)


def probe_check(report: Report, arms: Sequence[Arm]) -> list[Check]:
    """What the probe predicted of an arm's first steps, next to what was seen there: shares of dead groups under the
    regime that the arm starts with, where that is a plain one, for arms that start from the probed policy on the
    questions that it was probed with."""
    rows: list[Check] = []
    for arm in arms:
        regime = arm.curve[0]["trained_on"]
        if arm.starts_from != report.policy or not arm.same_questions or regime not in report.dead:
            continue
        predicted = report.dead[regime][report.group_size].predicted
        for steps in FIRST_STEPS:
            part = [dict[str, Any](step) for step in arm.curve[:steps] if step["trained_on"] == regime]
            dead = [1 - step[f"{regime}_live"] for step in part]
            low, high = interval(dead, RESAMPLES, 0)
            rows.append(
                {
                    "arm": arm.row["arm"],
                    "regime": regime,
                    "first_steps": len(part),
                    "predicted": predicted.mean,
                    "predicted_interval": [predicted.low, predicted.high],
                    "observed": round(sum(dead) / len(dead), 6),
                    "observed_interval": [round(low, 6), round(high, 6)],
                    "agree": low <= predicted.high and predicted.low <= high,
                }
            )
    return rows


def write(rows: Sequence[Compared], arms: Sequence[Arm], report: Report) -> None:
    """reports/compare/arms.json and arms.png."""
    write_json(COMPARISON / "arms.json", {"arms": list(rows), "probe": probe_check(report, arms)})
    by_name = {arm.row["arm"]: arm for arm in arms}
    draw([by_name[row["arm"]] for row in rows], COMPARISON / "arms.png")


def draw(arms: Sequence[Arm], path: Path) -> None:
    """Every arm's strict success in rollouts over the tokens it generated; a dot marks each switch of regime."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    for arm in arms:
        curve = arm.curve
        tokens = [step["generated_tokens"] / 1e6 for step in curve]
        success = smoothed([step["success"] for step in curve], 20)
        (line,) = axes.plot(tokens, success, label=arm.row["arm"], linewidth=1.5)
        switches = [place for place, step in enumerate(curve) if step["switch"]]
        axes.plot(
            [tokens[place] for place in switches], [success[place] for place in switches], "o", color=line.get_color(),
            markeredgecolor="black", markersize=7,
        )  # fmt: skip
    axes.set_xlabel("generated tokens since the warm-up, millions (a dot: the reward regime changes)")
    axes.set_ylabel("strict success in rollouts, mean of 20 steps")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120, metadata={"Software": None})


def show_arms() -> None:
    """Print what `make compare` found. Raises UserError where it has not run."""
    compared = comparison()
    rows = [_shown(row) for row in compared["arms"]]
    table = Table(title="the arms at one budget, on test questions unseen by training")
    for column in rows[0]:
        table.add_column(column, overflow="fold", no_wrap=column == "arm")
    for row in rows:
        table.add_row(*row.values())
    console.print(table, soft_wrap=False)
    checked = Table(title="dead groups: what the probe predicted, and what the first steps saw")
    for column in ("arm", "under", "steps", "predicted", "observed", "agree"):
        checked.add_column(column)
    for check in compared["probe"]:
        shares = [
            f"{share:.1%} [{low:.1%}, {high:.1%}]"
            for share, (low, high) in (
                (check["predicted"], check["predicted_interval"]),
                (check["observed"], check["observed_interval"]),
            )
        ]
        agree = "yes" if check["agree"] else "no"
        checked.add_row(check["arm"], check["regime"], str(check["first_steps"]), *shares, agree)
    console.print(checked, soft_wrap=False)
    console.print(f"compare: {COMPARISON / 'arms.png'}, {COMPARISON / 'arms.json'}")


def arm_rows() -> list[dict[str, str]]:
    """The table of arms, the best first. Raises UserError as `show_arms` does."""
    return [_shown(row) for row in comparison()["arms"]]


def _shown(row: Compared) -> dict[str, str]:
    """An arm's row in words, by column."""
    low, high = row["strict_accuracy_interval"]
    behind_low, behind_high = row["behind_best_interval"]
    switches = [f"{switch['step']:.0f} {switch['to']}" for switch in row["switches"]]
    return {
        "arm": row["arm"],
        "strict accuracy": f"{row['strict_accuracy']:.1%} [{low:.1%}, {high:.1%}]",
        "behind the best": (
            f"{row['behind_best']:+.1%} [{behind_low:+.1%}, {behind_high:+.1%}]" if row["behind_best"] else ""
        ),
        "pass@8": f"{row['pass_at_8']:.1%}" if "pass_at_8" in row else "–",
        "rewarded wrong": f"{row['rewarded_wrong']:.0%}" if row["rewarded_wrong"] is not None else "–",
        "entropy at the end": f"{row['end_entropy']:.3f}",
        f"M tokens to {MILESTONE:.0%} success": (
            f"{row['tokens_to_milestone'] / 1e6:.2f}" if row["tokens_to_milestone"] else "never"
        ),
        "switches at step": ", ".join(switches if len(switches) <= 3 else [*switches[:2], f"… {len(switches)} in all"]),
    }

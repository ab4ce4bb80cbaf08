"""All arms side by side: a table and a figure, from what their evaluations wrote."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from upaya.curves import smoothed
from upaya.errors import UserError
from upaya.evaluation import interval
from upaya.files import read_json, read_jsonl, read_text, replacing, write_json
from upaya.probe import Report
from upaya.progress import console
from upaya.report import RESULTS, metrics_of

REPORTS = Path("reports/compare")
RESAMPLES = 2000
MILESTONE = 0.2  # strict success in rollouts whose first passing is noted
FIRST_STEPS = (10, 100)  # the policy moves while it is watched: the fewer steps, the nearer to what was probed
END = 20  # steps at the end of a run over which its last state is averaged


def compare(names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per arm, the best first. Differences are paired by question with the best arm's.

    Raises UserError where an arm is not evaluated.
    """
    right = {name: _right(name) for name in names}
    rows = [_row(name) for name in names]
    rows.sort(key=lambda row: -row["strict_accuracy"])
    best = right[rows[0]["arm"]]
    for row in rows:
        found = right[row["arm"]]
        if found.keys() != best.keys():
            raise UserError(
                f"{row['arm']} was evaluated on other questions than {rows[0]['arm']}; `make compare` mends"
            )
        differences = [float(found[key]) - float(best[key]) for key in sorted(best)]
        row["behind_best"] = round(sum(differences) / len(differences), 6)
        row["behind_best_interval"] = [round(bound, 6) for bound in interval(differences, RESAMPLES, row["seed"])]
    return rows


def _row(name: str) -> dict[str, Any]:
    metrics, curve = metrics_of(name), read_curve(name)
    passed = [
        step for step, success in zip(curve, smoothed([step["success"] for step in curve]), strict=True)
        if success >= MILESTONE
    ]  # fmt: skip
    prices = [step["trained_rewarded_wrong"] for step in curve if step["trained_rewarded_wrong"] is not None]
    last = curve[-END:]
    return {
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


def probe_check(report: Report, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the probe predicted of an arm's first steps, next to what was seen there: shares of dead groups under the
    regime that the arm starts with, where that is a plain one.

    Args:
        names: arms that start from the probed policy on the questions that it was probed with.
    """
    rows = []
    for name in names:
        curve = read_curve(name)
        regime = curve[0]["trained_on"]
        if regime not in report.dead:
            continue
        predicted = report.dead[regime][report.group_size].predicted
        for steps in FIRST_STEPS:
            part = [step for step in curve[:steps] if step["trained_on"] == regime]
            dead = [1 - step[f"{regime}_live"] for step in part]
            low, high = interval(dead, RESAMPLES, 0)
            rows.append(
                {
                    "arm": name,
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


def read_curve(name: str) -> list[dict[str, Any]]:
    """The rows of an arm's curve.csv, numbers as numbers and empty cells as None."""
    text = read_text(RESULTS / name / "curve.csv")
    words = {"trained_on", "switch"}
    return [
        {key: value if key in words else float(value) if value else None for key, value in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]


def write(rows: Sequence[Mapping[str, Any]], checks: Sequence[Mapping[str, Any]]) -> None:
    """reports/compare/arms.json and arms.png."""
    write_json(REPORTS / "arms.json", {"arms": list(rows), "probe": list(checks)})
    draw([row["arm"] for row in rows], REPORTS / "arms.png")


def draw(names: Sequence[str], path: Path) -> None:
    """Every arm's strict success in rollouts over the tokens it generated; a dot marks each switch of regime."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    for name in names:
        curve = read_curve(name)
        tokens = [step["generated_tokens"] / 1e6 for step in curve]
        success = smoothed([step["success"] for step in curve], 20)
        (line,) = axes.plot(tokens, success, label=name, linewidth=1.5)
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
    path = REPORTS / "arms.json"
    if not path.exists():
        raise UserError(f"{path}: no comparison yet; `make compare` makes it")
    found = read_json(path)
    table = Table(title="the arms at one budget, on test questions unseen by training")
    for column in ("arm", "strict accuracy", "behind the best", "pass@8", "rewarded wrong", "entropy at the end",
                   f"M tokens to {MILESTONE:.0%} success", "switches at step"):  # fmt: skip
        table.add_column(column, overflow="fold", no_wrap=column == "arm")
    for row in found["arms"]:
        low, high = row["strict_accuracy_interval"]
        behind_low, behind_high = row["behind_best_interval"]
        switches = [f"{switch['step']:.0f} {switch['to']}" for switch in row["switches"]]
        table.add_row(
            row["arm"],
            f"{row['strict_accuracy']:.1%} [{low:.1%}, {high:.1%}]",
            f"{row['behind_best']:+.1%} [{behind_low:+.1%}, {behind_high:+.1%}]" if row["behind_best"] else "",
            f"{row['pass_at_8']:.1%}" if "pass_at_8" in row else "–",
            f"{row['rewarded_wrong']:.0%}" if row["rewarded_wrong"] is not None else "–",
            f"{row['end_entropy']:.3f}",
            f"{row['tokens_to_milestone'] / 1e6:.2f}" if row["tokens_to_milestone"] else "never",
            ", ".join(switches if len(switches) <= 3 else [*switches[:2], f"… {len(switches)} in all"]),
        )
    console.print(table, soft_wrap=False)
    checked = Table(title="dead groups: what the probe predicted, and what the first steps saw")
    for column in ("arm", "under", "steps", "predicted", "observed", "agree"):
        checked.add_column(column)
    for row in found["probe"]:
        shares = [
            f"{row[key]:.1%} [{row[f'{key}_interval'][0]:.1%}, {row[f'{key}_interval'][1]:.1%}]"
            for key in ("predicted", "observed")
        ]
        checked.add_row(row["arm"], row["regime"], str(row["first_steps"]), *shares, "yes" if row["agree"] else "no")
    console.print(checked, soft_wrap=False)
    console.print(f"compare: {REPORTS / 'arms.png'}, {path}")


def _right(name: str) -> dict[str, bool]:
    """Question id → whether the greedy completion was exactly right."""
    rows = (row for _, row in read_jsonl(RESULTS / name / "samples.jsonl"))
    return {row["id"]: row["exact"] for row in rows if row["decoding"] == "greedy"}

"""What a curriculum came to: one row per policy from base on, from the files that the stages wrote."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from upaya.records.evaluations import details_of
from upaya.records.histories import event_text, history_of
from upaya.records.policies import Provenance, line_of, provenance
from upaya.terminal import console

GAP = "rollouts, validation"  # the column of strict success in both
NONE = "–"
MEASUREMENTS = 3  # on validation questions, over which success at a stage's end is averaged
WINDOW = 10  # steps over which the share of dead groups at a stage's start and end is averaged


def show(policy: str) -> None:
    """Print the table. Raises UserError where a policy or its evaluation is not built."""
    rows = rows_of(policy)
    gaps = {row["policy"]: row.pop(GAP) for row in rows}  # another column would break words where 80 fit a line
    table = Table(title=f"{policy} and its ancestors, on test questions unseen by training")
    for column in rows[0]:
        table.add_column(column, overflow="fold", no_wrap=column == "policy")
    for row in rows:
        table.add_row(*row.values())
    console.print(table, soft_wrap=False)
    for line in said_besides(details_of(policy)):
        console.print(f"{policy}: {line}")
    shown = [f"{name} {gap}" for name, gap in gaps.items() if gap != NONE]
    if shown:
        console.print(f"strict success at the end, in rollouts and on validation questions: {'; '.join(shown)}")


def said_besides(metrics: Mapping[str, Any]) -> Iterator[str]:
    """A line for each kind that is measured besides what is trained on (`evaluation.also`)."""
    for kind, measures in metrics.get("also", {}).items():
        low, high = measures["strict_accuracy_interval"]
        accuracy = f"{measures['strict_accuracy']:.1%} [{low:.1%}, {high:.1%}]"
        yield f"besides, {kind}: strict accuracy {accuracy} of {measures['n_questions']}"


def rows_of(policy: str) -> list[dict[str, str]]:
    """The table, a row for each policy from base on. Raises UserError as `show` does."""
    rows = []
    for name in line_of(policy):
        built, metrics = provenance(name), details_of(name)
        low, high = metrics["strict_accuracy_interval"]
        row = {
            "policy": name,
            "steps": str(built["steps"]),
            "regime": built["regime"] or NONE,
            "strict accuracy": f"{metrics['strict_accuracy']:.1%} [{low:.1%}, {high:.1%}]",
            "pass@8": f"{metrics['pass_at_8']:.1%}" if "pass_at_8" in metrics else NONE,
            "dead groups: start → end": _dead(name, built, metrics),
            GAP: _gap(name),
            "switched": _switched(name),
        }
        rows.append(row)
    return rows


def _dead(name: str, built: Provenance, metrics: Mapping[str, Any]) -> str:
    """Shares of dead groups under the regime that was trained on, and under strict where that is another; for a policy
    before GRPO those among the test questions, and the groups that hold no right completion beside a wrong one."""
    steps = [record for record in history_of(name) if "regimes" in record]
    if not steps:
        dead = f"{metrics['dead/strict']:.0%} (strict, test)\n" if "dead/strict" in metrics else ""
        return f"{dead}{1 - metrics['contrast']:.0%} hold no right beside wrong"
    shown = []
    for regime in dict.fromkeys([built["regime"], "strict"]):
        if regime in steps[0]["regimes"]:
            start, end = (
                sum(1 - record["regimes"][regime]["live"] for record in part) / len(part)
                for part in (steps[:WINDOW], steps[-WINDOW:])
            )
            shown.append(f"{start:.0%} → {end:.0%} ({regime})")
    return "\n".join(shown)


def _gap(name: str) -> str:
    """Strict success at the end in rollouts and on validation questions, in the mean of the last measurements: where
    the second is far below the first, prompts are learnt by heart."""
    last = [record for record in history_of(name) if "gap" in record.get("validation", {})][-MEASUREMENTS:]
    if not last:
        return NONE
    training = sum(record["success"] for record in last) / len(last)
    validation = sum(record["validation"]["success"] for record in last) / len(last)
    return f"{training:.1%}, {validation:.1%}"


def _switched(name: str) -> str:
    events = [record for record in history_of(name) if record.get("event") == "switch"]
    shown = [event_text(event) for event in events]
    return "\n".join(shown if len(shown) <= 3 else [*shown[:2], f"… {len(shown)} switches in all"])

"""Arms over several seeds: means and ranges over runs, which the interval over one run's questions does not cover."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from upaya.measuring.comparison import Arm
from upaya.terminal import console


def summarised(found: Mapping[int, Sequence[Arm]]) -> list[dict[str, Any]]:
    """One row per arm, the best mean first. Args: found: seed → the same arms in the same order."""
    rows = []
    for same in zip(*found.values(), strict=True):
        accuracies = [float(arm.row["strict_accuracy"]) for arm in same]
        switches = [next((step["step"] for step in arm.row["switches"]), None) for arm in same]
        rows.append(
            {
                "arm": same[0].row["arm"],
                "strict_accuracy": dict(zip(map(str, found), accuracies, strict=True)),
                "mean": round(float(np.mean(accuracies)), 6),
                "spread": round(float(np.std(accuracies, ddof=1)), 6) if len(accuracies) > 1 else None,
                "worst": min(accuracies),
                "best": max(accuracies),
                "first_switch": dict(zip(map(str, found), switches, strict=True)),
            }
        )
    return sorted(rows, key=lambda row: -row["mean"])


def show_seeds(rows: Sequence[Mapping[str, Any]], split: str) -> None:
    """Print them."""
    count = len(rows[0]["strict_accuracy"])
    table = Table(title=f"strict accuracy on {split} questions unseen by training, over {count} seeds")
    for column in ("arm", "mean", "standard deviation", "worst", "best", "first switch at step"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for row in rows:
        switches = [step for step in row["first_switch"].values() if step is not None]
        never = f"{count - len(switches)} never" if len(switches) < count else ""
        said = f"{min(switches):.0f} to {max(switches):.0f}" if switches else ""
        table.add_row(
            row["arm"],
            f"{row['mean']:.1%}",
            f"{row['spread']:.1%}" if row["spread"] is not None else "–",
            f"{row['worst']:.1%}",
            f"{row['best']:.1%}",
            ", ".join(part for part in (said, never) if part),
        )
    console.print(table, soft_wrap=False)

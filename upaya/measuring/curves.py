"""Curves over a whole curriculum: the histories of a policy and its ancestors end to end, as a table and a figure."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upaya.files import replacing, write_text

VALIDATION = "validation_success"  # of the steps that measured it
COLUMNS = ("step", "generated_tokens", "trained_on", "success", "format_rate", "entropy", "completion_length")


@dataclass(frozen=True)
class Curve:
    """One row per step from the warm-up on, and the switches between regimes.

    A row has columns for the regimes that its stage measured: those under `measured`, and what it trained on; and one
    for success on validation questions where its step measured that.
    """

    rows: list[dict[str, Any]]
    switches: list[dict[str, Any]]

    @property
    def columns(self) -> list[str]:
        """Those of all rows, in the order in which they first appear."""
        return list(dict.fromkeys(key for row in self.rows for key in row)) or list(COLUMNS)

    @classmethod
    def of(cls, histories: Sequence[Sequence[Mapping[str, Any]]]) -> "Curve":
        """From the histories of the GRPO stages in the order in which they followed each other."""
        rows: list[dict[str, Any]] = []
        switches: list[dict[str, Any]] = []
        for record in (record for history in histories for record in history):
            if "event" in record:
                if record["event"] == "switch":
                    switches.append({key: record[key] for key in ("step", "from", "to")})
                    rows[-1]["switch"] = f"{record['from']} → {record['to']}"  # after this step
                continue
            row = {key: record[key] for key in COLUMNS if key in record} | {"trained_on": record["regime"]}
            row["switch"] = ""
            row["trained_rewarded_wrong"] = record["trained"]["rewarded_wrong"]
            if "validation" in record:
                row[VALIDATION] = record["validation"]["success"]
            for regime, measured in record["regimes"].items():
                row |= {f"{regime}_{key}": measured[key] for key in ("reward", "live", "rewarded_wrong")}
            rows.append({key: row[key] for key in (*COLUMNS, *(key for key in row if key not in COLUMNS))})
        return cls(rows, switches)

    def write_csv(self, path: Path) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")  # empty where a row has none
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(path, text.getvalue())


def smoothed(values: Sequence[float], window: int = 10) -> list[float]:
    """The mean of each value and up to window − 1 before it."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def draw(curves: Mapping[str, Curve], path: Path) -> None:
    """Strict success and the share of live groups under every regime over the steps; a line marks each switch."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(8, 6), layout="constrained")
    success, live = figure.subplots(2, 1, sharex=True)
    for name, curve in curves.items():
        steps = [row["step"] for row in curve.rows]
        success.plot(steps, smoothed([row["success"] for row in curve.rows]), label=name)
        held = [(row["step"], row[VALIDATION]) for row in curve.rows if VALIDATION in row]
        if held:
            success.plot(*zip(*held, strict=True), "o", markersize=4, label=f"{name}: on validation questions")
        for key in [key for key in curve.columns if key.endswith("_live")]:
            rows = [row for row in curve.rows if key in row]
            measured = smoothed([row[key] for row in rows])
            live.plot([row["step"] for row in rows], measured, label=f"{name}: {key.removesuffix('_live')}")
        for switch in curve.switches:
            for axes in (success, live):
                axes.axvline(switch["step"], color="black", linestyle="--", linewidth=1)
            success.annotate(
                f" {switch['from']} → {switch['to']}", (switch["step"], 1), xycoords=("data", "axes fraction"), va="top"
            )
    success.set_ylabel("strict success in rollouts")
    live.set_ylabel("share of live groups")
    live.set_ylim(0, 1)
    live.set_xlabel("steps since the warm-up")
    figure.suptitle(", ".join(curves))
    success.legend(loc="lower right", fontsize="small")  # the switch is written at the top
    live.legend(loc="upper right", fontsize="small")
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120, metadata={"Software": None})

"""Curves over a curriculum whose stages did not measure the same."""

import csv
from pathlib import Path

from upaya.measuring.curves import Curve, draw


def record(step: int, *regimes: str) -> dict[str, object]:
    measured = {name: {"reward": 0.5, "live": 0.25, "rewarded_wrong": 0.0} for name in regimes}
    said = {"generated_tokens": 9, "success": 0.1, "format_rate": 1.0, "entropy": 1.0, "completion_length": 9.0}
    return {"step": step, "regime": regimes[0], **said, "trained": {"rewarded_wrong": 0.0}, "regimes": measured}


def test_success_on_validation_questions_stands_at_the_steps_that_measured_it(tmp_path: Path) -> None:
    held = {**record(2, "strict"), "validation": {"success": 0.04, "gap": 0.06}}
    curve = Curve.of([[record(1, "strict"), held]])
    curve.write_csv(tmp_path / "curve.csv")
    draw({"it": curve}, tmp_path / "curve.png")
    with (tmp_path / "curve.csv").open() as file:
        assert [row["validation_success"] for row in csv.DictReader(file)] == ["", "0.04"]
    assert "validation_success" not in Curve.of([[record(1, "strict")]]).columns


def test_a_regime_that_one_stage_alone_measured(tmp_path: Path) -> None:
    switch = {"event": "switch", "step": 2, "from": "mine", "to": "strict"}
    for first, then in ((("mine", "strict"), ("strict",)), (("strict",), ("mine", "strict"))):
        curve = Curve.of([[record(1, *first), record(2, *first)], [switch, record(3, *then)]])
        curve.write_csv(tmp_path / "curve.csv")
        draw({"it": curve}, tmp_path / "curve.png")
        with (tmp_path / "curve.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["strict_live"] for row in rows] == ["0.25"] * 3
        assert [row["mine_live"] for row in rows] == ["0.25" if "mine" in part else "" for part in (first, first, then)]
        assert (tmp_path / "curve.png").stat().st_size > 0

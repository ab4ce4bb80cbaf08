"""Arms over several seeds."""

import pytest

from flows.seeds import seeds_in
from upaya.errors import UserError
from upaya.measuring.comparison import Arm
from upaya.measuring.seeds import show_seeds, summarised


def arm(name: str, accuracy: float, switch: int | None) -> Arm:
    switches = [{"step": switch, "to": "lenient → strict"}] if switch else []
    row = {"arm": name, "strict_accuracy": accuracy, "switches": switches}
    return Arm(row=row, right={}, curve=[], starts_from="warmup", same_questions=True)


def test_means_and_ranges_over_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    rows = summarised(
        {11: [arm("strict-only", 0.0, None), arm("lenient-strict", 0.9, 100)],
         12: [arm("strict-only", 0.0, None), arm("lenient-strict", 1.0, None)]}
    )  # fmt: skip
    assert [row["arm"] for row in rows] == ["lenient-strict", "strict-only"]
    assert (rows[0]["mean"], rows[0]["worst"], rows[0]["best"]) == (pytest.approx(0.95), 0.9, 1.0)
    assert rows[0]["first_switch"] == {"11": 100, "12": None} and rows[0]["spread"] == pytest.approx(0.0707, abs=1e-4)
    show_seeds(rows, "test")
    assert "100 to 100, 1 never" in capsys.readouterr().out


def test_seeds_are_named_as_a_range_or_one_by_one() -> None:
    assert seeds_in("11-13") == [11, 12, 13] and seeds_in("1,7") == [1, 7]
    for wrong in ("", "a", "3-1", "1,1"):
        with pytest.raises(UserError, match="--seeds"):
            seeds_in(wrong)

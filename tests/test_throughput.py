"""Where a stage's time goes: a file of its own, in which each step stands once, whatever befell the stage."""

import json
from pathlib import Path

import pytest

from upaya.records.throughput import PARTS, rates, timed
from upaya.training.steps.history import History
from upaya.training.steps.throughput import Throughput


def lines_of(path: Path) -> list[dict[str, dict[str, float]]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says; a test moves it on."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_the_parts_of_a_step_add_up_to_what_it_took(tmp_path: Path, clock: list[float]) -> None:
    throughput = Throughput(History(tmp_path / "throughput.jsonl"))
    for step in (1, 2):
        with throughput.part("rollouts"):
            clock[0] += 2 * step
        throughput.count("rollouts", 30)
        clock[0] += 1  # of nobody's
        throughput.line(step)
        with throughput.part("checkpoint"):
            clock[0] += 4  # of the next step's line
    throughput.file.close()
    first, second = lines_of(tmp_path / "throughput.jsonl")
    assert first == {"step": 1, "seconds": {"rollouts": 2.0, "rest": 1.0}, "tokens": {"rollouts": 30}}
    assert second["seconds"] == {"checkpoint": 4.0, "rollouts": 4.0, "rest": 1.0}


def test_rates_are_those_of_all_steps_together() -> None:
    found = rates(
        [
            {"step": 1, "seconds": {"rollouts": 1.0, "rest": 1.0}, "tokens": {"rollouts": 100}},
            {"step": 2, "seconds": {"rollouts": 3.0, "update": 5.0}, "tokens": {"rollouts": 100, "update": 10}},
        ]
    )
    assert found["share"] == {"rollouts": 0.4, "rest": 0.1, "update": 0.5}
    assert found["tokens_per_second"] == {"rollouts": 50.0, "update": 2.0}
    assert rates([]) == {"share": {}, "tokens_per_second": {}}


def test_a_history_takes_the_times_of_its_own_steps() -> None:
    switch, step = {"event": "switch", "step": 1}, {"step": 1, "success": 0.5}
    told = timed([switch, step, {"step": 2}], [{"step": 1, "seconds": {"update": 2.0}, "tokens": {"update": 8}}])
    assert told[0] == switch and told[2] == {"step": 2}
    assert told[1] == step | {"throughput": {"share": {"update": 1.0}, "tokens_per_second": {"update": 4.0}}}


@pytest.mark.parametrize(("name", "first", "last"), [("base", 1, 10), ("lenient", 1, 6), ("lenient-strict", 7, 10)])
def test_every_step_of_a_built_policy_has_a_line(built: Path, name: str, first: int, last: int) -> None:
    lines = lines_of(built / f"reports/throughput/{name}.jsonl")
    assert [line["step"] for line in lines] == list(range(first, last + 1))
    part = "update" if name == "base" else "rollouts"  # a step of GRPO may go without an update
    assert all(line["seconds"].keys() <= set(PARTS) and line["seconds"][part] > 0 for line in lines)
    assert not list((built / "policies").rglob("throughput*")), "what is never the same twice is no part of a policy"


def test_its_tokens_are_those_that_were_generated(built: Path) -> None:
    made = [json.loads((built / f"policies/{name}/policy.json").read_text()) for name in ("lenient", "lenient-strict")]
    tokens = sum(line["tokens"]["rollouts"] for line in lines_of(built / "reports/throughput/lenient-strict.jsonl"))
    assert tokens == made[1]["generated_tokens"] - made[0]["generated_tokens"] > 0

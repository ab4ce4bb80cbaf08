"""Success on validation questions during GRPO: it trains nothing otherwise, alarms, and may decide a hand-over."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import several
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks import grpo as task
from upaya.corpus.answers import Completion
from upaya.corpus.questions import Question
from upaya.declared.grpo import Alarm, AllOf, Condition, PolicyParams, Steps, SuccessRate, Validation, is_on_validation
from upaya.declared.selection import Selection
from upaya.declared.validation import read_yaml
from upaya.errors import UserError
from upaya.measuring import report
from upaya.records.histories import event_text
from upaya.training.completions.rollouts import roll_out
from upaya.training.grpo import validation as measuring
from upaya.training.grpo.alarm import Health
from upaya.training.grpo.loop import GrpoSettings, train
from upaya.training.grpo.switching import RunningStatistics, fired, reach
from upaya.training.grpo.validation import Measurement
from upaya.training.steps import processes
from upaya.training.steps.engine import engine_for
from upaya.training.steps.run import Run

EVERY = Validation(every=2, questions=4, samples=2)
HELD_OUT = [question.model_copy(update={"id": f"held-{question.id}", "prompt": f"界？{question.prompt}"})
            for question in several.QUESTIONS]  # fmt: skip
SEED = 1
ON_VALIDATION = SuccessRate(type="success_rate", threshold=0.3, window=2, on="validation")


def even(completion: Completion, question: Question) -> bool:
    """What a policy that knows nothing is right in half the time."""
    return len(completion.text) % 2 == 0


@pytest.fixture(autouse=True)
def exactly_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upaya.rewards.scoring.exact", even)


class Killed(Exception):
    pass


def trained(
    folder: Path, validation: Validation | None, killed_at: Sequence[int] = (), until: Condition | None = None
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], bytes, str | None]:
    """A stage of ten steps, killed at the records of these steps and started again each time.

    Returns its weights, its history, the bytes of its rollouts.jsonl, and by which condition it handed over.
    """
    folder.mkdir(exist_ok=True)
    deaths = list(killed_at)

    def on_record(record: dict[str, Any]) -> None:
        if deaths and record["step"] == deaths[0]:
            raise Killed(deaths.pop(0))

    grpo = several.GRPO.model_copy(update={"validation": validation, "budget": 10, "checkpoint_every": 3})
    settings = GrpoSettings(
        regime="lenient", reward=several.LENIENT["lenient"], scored=several.LENIENT, learning_rate=1e-3, first_step=0,
        last_step=10, until=until, sampling=several.SAMPLING, grpo=grpo, validation=HELD_OUT,
    )  # fmt: skip
    while True:
        policy = several.start()
        try:
            outcome = train(policy, several.QUESTIONS, settings, Run("own", folder, "same", SEED, on_record))
        except Killed:
            continue
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        weights = {name: part.detach().clone() for name, part in policy.model.named_parameters()}
        condition = outcome.handover.condition if outcome.handover else None
        return weights, history, (folder / "rollouts.jsonl").read_bytes(), condition


def without(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A history as it is where nothing is measured on validation questions."""
    kept = [record for record in history if record.get("of") != "gap"]
    return [{key: value for key, value in record.items() if key != "validation"} for record in kept]


def test_what_is_trained_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    weights, history, rollouts, _ = trained(tmp_path / "on", EVERY)
    plain_weights, plain_history, plain_rollouts, _ = trained(tmp_path / "off", None)
    assert all(torch.equal(weights[name], part) for name, part in plain_weights.items())
    assert without(history) == plain_history == without(plain_history) and rollouts == plain_rollouts
    measured = [record for record in history if "validation" in record]
    assert [record["step"] for record in measured] == [2, 4, 6, 8, 10]
    assert all(
        record["validation"]["gap"] == record["success"] - record["validation"]["success"] for record in measured
    )
    assert len({record["validation"]["success"] for record in measured}) > 1


def test_killed_at_any_step_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    trained(tmp_path / "whole", EVERY)
    trained(tmp_path / "killed", EVERY, killed_at=[2, 4, 7, 8])
    for file in ("history.jsonl", "rollouts.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()


def test_a_hand_over_by_validation_says_so_and_is_the_same_after_a_kill(tmp_path: Path) -> None:
    _, history, _, condition = trained(tmp_path / "whole", EVERY, until=ON_VALIDATION)
    assert condition == "strict success on validation questions over 2 steps ≥ 0.3"
    event = history[-1]
    measured = [record for record in history if record.get("validation", {}).get("success", 0) >= 0.3]
    assert (
        event["event"] == "handover" and event["step"] == measured[0]["step"] and "on validation" in event_text(event)
    )
    trained(tmp_path / "killed", EVERY, killed_at=[1, event["step"]], until=ON_VALIDATION)
    history_files = [tmp_path / name / "history.jsonl" for name in ("whole", "killed")]
    assert history_files[0].read_bytes() == history_files[1].read_bytes()


def test_each_measurement_asks_the_next_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, asked = several.start(), []
    engine = engine_for(policy, 0, learning_rate=1e-3, max_grad_norm=1.0)

    def rolled_out(engine: Any, prompts: Sequence[Sequence[int]], *arguments: Any, **named: Any) -> Any:
        asked.append([tuple(prompt) for prompt in prompts])
        return roll_out(engine, prompts, *arguments, **named)

    monkeypatch.setattr(measuring, "roll_out", rolled_out)
    three = Validation(every=5, questions=3)
    measurement = Measurement(policy, three, HELD_OUT, several.SAMPLING, SEED)
    assert [measurement.success(engine, step, 0) is not None for step in range(1, 11)] == 2 * [*4 * [False], True]
    assert len({*asked[0], *asked[1]}) == len(HELD_OUT)
    many = Measurement(policy, Validation(every=1, questions=99), HELD_OUT, several.SAMPLING, SEED)
    assert many.success(engine, 1, 0) is not None and len(set(asked[-1])) == len(asked[-1]) == len(HELD_OUT)
    assert Measurement(policy, three, [], several.SAMPLING, SEED).success(engine, 5, 0) is None
    again = Measurement(policy, three, HELD_OUT, several.SAMPLING, SEED)
    assert again.success(engine, 10, 0) == measurement.success(engine, 10, 0)


def test_several_processes_share_it_out_and_see_what_one_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = several.start()
    engine = engine_for(policy, 0, learning_rate=1e-3, max_grad_norm=1.0)
    measurement = Measurement(policy, Validation(every=1, questions=5), HELD_OUT, several.SAMPLING, SEED)
    alone = measurement.success(engine, 3, 0)
    parts: list[Any] = []
    monkeypatch.setattr(processes, "world", lambda: 2)

    def kept(part: Any) -> Any:
        parts.append(part)
        raise Killed

    monkeypatch.setattr(processes, "gathered", kept)
    for rank in range(2):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        with pytest.raises(Killed):
            measurement.success(engine, 3, 0)
    assert [len(part.prompts) for part in parts] == [3, 2]
    monkeypatch.setattr(processes, "gathered", lambda part: parts)
    for rank in range(2):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        assert measurement.success(engine, 3, 0) == alone


def test_a_selection_without_validation_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured is nothing then, and a hand-over that waits for it is refused."""
    monkeypatch.setattr(task, "read", lambda folder, split: HELD_OUT)

    def questions(kind: str, until: Condition | None) -> list[Question]:
        policy = PolicyParams.model_validate({"from": "warmup", "regime": "r", "learning_rate": 1, "until": until})
        grpo = several.GRPO.model_copy(update={"validation": EVERY})
        return task._validation("mine", task.Params.model_construct(grpo=grpo, policy=policy), Selection(kinds=[kind]))

    assert questions("own", ON_VALIDATION) == HELD_OUT and questions("other", None) == []
    with pytest.raises(UserError, match=r"policies\.mine\.until.*no question of mine's selection"):
        questions("other", ON_VALIDATION)


def test_the_table_shows_both_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [
        {"success": 0.68, "validation": {"success": 0.04, "gap": 0.64}, "regimes": {"r": {"live": 1.0}}},
        {"success": 0.9, "regimes": {"r": {"live": 1.0}}},
    ]
    histories = {"warmup": [{"step": 1, "validation": {"success": 0.0, "score": 0.9}}], "mine": steps}
    monkeypatch.setattr(report, "line_of", lambda policy: list(histories))
    monkeypatch.setattr(report, "history_of", histories.__getitem__)
    monkeypatch.setattr(report, "provenance", lambda policy: {"steps": 2, "regime": "r"})
    metrics = {"strict_accuracy": 0.04, "strict_accuracy_interval": [0.0, 0.1], "contrast": 0.5}
    monkeypatch.setattr(report, "details_of", lambda policy: metrics)
    assert [row["rollouts, validation"] for row in report.rows_of("mine")] == ["–", "68.0%, 4.0%"]
    report.show("mine")
    assert "in rollouts and on validation questions: mine 68.0%, 4.0%" in " ".join(capsys.readouterr().out.split())


def test_the_word_on_is_a_key(tmp_path: Path) -> None:
    """YAML 1.1 reads it as true."""
    (tmp_path / "it.yaml").write_text("until: {type: success_rate, threshold: 0.3, on: validation}\nkeep: true\n")
    content = read_yaml(tmp_path / "it.yaml")
    assert SuccessRate.model_validate(content["until"]).on == "validation" and content["keep"] is True


def test_a_condition_on_validation_is_found_wherever_it_stands() -> None:
    steps = Steps(type="steps", steps=1)
    training = SuccessRate(type="success_rate", threshold=0.3)
    assert is_on_validation(AllOf(type="all", of=[steps, AllOf(type="all", of=[ON_VALIDATION])]))
    assert not is_on_validation(AllOf(type="all", of=[steps, training])) and not is_on_validation(None)


def resumed(statistics: RunningStatistics) -> RunningStatistics:
    again = RunningStatistics(statistics.longest_window)
    again.load_state_dict(json.loads(json.dumps(statistics.state_dict())))
    return again


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40),
    st.integers(1, 7),
    st.integers(1, 12),
)
def test_success_on_validation_is_the_mean_of_the_windows_measurements(
    successes: list[tuple[float, float]], every: int, window: int
) -> None:
    """Whatever the training prompts say, and through a checkpoint at every step."""
    condition = SuccessRate(type="success_rate", threshold=0.5, window=window, on="validation")
    statistics = RunningStatistics(reach(condition, Alarm(window=1, health_window=1)))
    measured: dict[int, float] = {}
    for step, (training, validation) in enumerate(successes, start=1):
        if step % every == 0:
            measured[step] = validation
        statistics.update({"success": training}, measured.get(step))
        statistics = resumed(statistics)
        within = [value for at, value in measured.items() if at > step - window] or list(measured.values())[-1:]
        holds = step >= window and bool(within) and sum(within) / len(within) >= 0.5
        found = fired(condition, statistics)
        assert (found is not None) == holds
        assert found is None or "on validation questions" in found.condition


def test_success_on_training_prompts_does_not_hand_over_on_validation() -> None:
    statistics = RunningStatistics(100)
    for step in range(1, 41):
        statistics.update({"success": 0.9}, 0.04 if step % 10 == 0 else None)
        assert fired(ON_VALIDATION, statistics) is None
    assert fired(SuccessRate(type="success_rate", threshold=0.65), statistics) is not None


def alarms(measured: Sequence[tuple[float, float]], alarm: Alarm) -> list[tuple[int, dict[str, Any]]]:
    """(which measurement, event) of each alarm, through a checkpoint at every measurement."""
    health, found = Health(alarm), []
    for place, (training, validation) in enumerate(measured):
        found += [(place, event) for event in health.compare(training, validation)]
        state = json.loads(json.dumps(health.state_dict()))
        health = Health(alarm)
        health.load_state_dict(state)
    return found


def test_prompts_learnt_by_heart_sound_at_once_and_say_both_figures() -> None:
    ((place, event),) = alarms([(0.68, 0.038)], Alarm())
    text = event_text({**event, "step": 10})
    assert place == 0 and event["of"] == "gap" and "68.0%" in text and "3.8%" in text
    assert "on: validation" in text and "More training questions" in text and "(it was 0.642)" in text


def test_a_gap_sounds_again_only_where_it_has_grown_by_as_much() -> None:
    alarm = Alarm(gap=0.2, gap_over=1)
    assert [place for place, _ in alarms([(0.3, 0.2), (0.5, 0.2), (0.6, 0.2), (0.8, 0.2), (0.9, 0.2)], alarm)] == [1, 3]
    assert not alarms([(0.9, 0.8)] * 20, alarm) and not alarms([(0.1, 0.9)] * 3, alarm)


def test_a_stage_that_has_measured_little_needs_a_larger_gap() -> None:
    assert [place for place, _ in alarms([(0.5, 0.2)] * 4, Alarm())] == [1]  # 0.3: above 0.2 √(3 / 2), below 0.2 √3


def test_one_measurement_alone_out_of_three_does_not_sound() -> None:
    assert not alarms([(0.5, 0.45), (0.55, 0.5), (0.6, 0.3), (0.6, 0.55)], Alarm())


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=30), st.floats(0.05, 0.9), st.integers(1, 4))
def test_every_alarm_is_above_the_last_by_more_than_the_declared_gap(
    measured: list[tuple[float, float]], gap: float, over: int
) -> None:
    values = [0.0, *(event["value"] for _, event in alarms(measured, Alarm(gap=gap, gap_over=over)))]
    assert all(after - before > gap - 1e-5 for before, after in pairwise(values))

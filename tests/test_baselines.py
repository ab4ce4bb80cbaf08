"""Cheap baselines: what is right without the doctrine."""

from typing import Any

import pytest

from upaya.corpus.baselines import EACH_PLACE, MOST_ALIKE, MOST_FREQUENT, baselines, cheaply_right
from upaya.corpus.questions import Question, Split
from upaya.measuring.audit import show_baselines


def asked(n: int, prompt: str, answer: Any, answer_type: str, split: Split = "train", **more: Any) -> Question:
    fixed = {"id": f"{split}-{n}", "kind": "k", "split": split, "key": f"{split}-{n}", "reasoning": "", "source": "s"}
    said = {"prompt": prompt, "prompt_traditional": prompt, "answer": answer, "answer_traditional": answer}
    return Question.model_validate({**fixed, **said, "answer_type": answer_type, **more})


TRAIN = [asked(n, f"問甲{n}", n > 0, "boolean") for n in range(4)]
TEST = [asked(n, "問甲1" if n else "問甲0", n > 1, "boolean", "test") for n in range(4)]


def test_the_most_frequent_answer_is_that_of_the_training_questions() -> None:
    assert baselines([*TRAIN, *TEST], {})["k"][MOST_FREQUENT] == 0.5


def test_a_rule_is_scored_on_the_test_questions_and_says_nothing_where_it_knows_nothing() -> None:
    rules = {"test-0": {"r": False}, "test-1": {"r": False}, "test-2": {"r": False}, "train-0": {"r": True}}
    found = baselines([*TRAIN, *TEST], rules)["k"]
    assert found["r"] == 0.75  # the last as the most frequent answer: right
    assert cheaply_right({"k": {"r": found["r"], MOST_FREQUENT: 0.5}}) == ["k: 'r' answers 75% of the test questions"]


def test_the_question_most_alike_lends_its_answer() -> None:
    assert baselines([*TRAIN, *TEST], {})["k"][MOST_ALIKE] == 0.75  # of 甲0 the answer is no, of 甲1 yes


def test_each_gate_has_a_most_frequent_value() -> None:
    """Learnt on the training questions, wherever in them the gate was asked."""
    gates = [["a", "b"], ["b", "a"], ["a", "c"]]
    values = [["善", "內"], ["內", "善"], ["不善", "外"]]
    train = [asked(n, "問", values[n], "ordered_list", skills=gates[n]) for n in range(3)]
    test = [
        asked(0, "問", ["內", "外"], "ordered_list", "test", skills=["b", "c"]),
        asked(1, "問", ["不善", "內"], "ordered_list", "test", skills=["a", "b"]),
    ]
    assert baselines([*train, *test], {})["k"][EACH_PLACE] == 0.5


def test_difficulties_are_told_apart_and_a_kind_without_test_questions_is_left_out() -> None:
    hard = [question.model_copy(update={"id": f"{question.id}h", "difficulty": 2}) for question in (*TRAIN, *TEST)]
    alone = asked(9, "問", "甲", "term").model_copy(update={"kind": "alone"})
    assert list(baselines([*TRAIN, *TEST, *hard, alone], {})) == ["k, difficulty 1", "k, difficulty 2"]


def test_the_table_holds_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    show_baselines({"membership": {"same theme": 0.56}, "list_count": {MOST_FREQUENT: 0.17}})
    shown = capsys.readouterr().out
    assert "membership" in shown and "56%" in shown and "17%" in shown and "same theme" in shown

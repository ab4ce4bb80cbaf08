"""What the warm-up shows."""

from collections import Counter

import pytest

from upaya.corpus.questions import Question
from upaya.errors import UserError
from upaya.training.sft.warmup import with_drawn_answers


def question(number: int, answer: list[str], **more: object) -> Question:
    fixed = {"kind": "lists", "split": "train", "key": "k", "prompt": "?", "reasoning": "", "source": "s"}
    scripts = {"prompt_traditional": "?", "answer": answer, "answer_traditional": answer}
    return Question.model_validate({"id": f"q-{number}", **fixed, **scripts, **more})


def test_drawn_answers_hold_what_may_be_said_and_nothing_of_what_is_right() -> None:
    choices = [["善", "不善", "无记"], ["有对", "无对"]]
    asked_for = {"skills": ["三性", "有对无对"], "choices": choices, "answer_type": "ordered_list"}
    questions = [question(n, ["善及无记" if n % 2 else "不善", "有对"], **asked_for) for n in range(900)]
    drawn = with_drawn_answers(questions, seed=1)
    said = Counter(each.answer[0] for each in drawn)
    assert (
        set(said) == {"善", "不善", "无记", "善及无记"} and min(said.values()) > 150
    )  # what another's answer holds too
    right = sum(after.answer[0] == before.answer[0] for before, after in zip(questions, drawn, strict=True))
    assert 0.18 < right / 900 < 0.32  # chance
    assert [each.answer for each in drawn] == [each.answer for each in with_drawn_answers(questions, seed=1)]
    assert with_drawn_answers(questions[5:6] + questions, seed=1)[0].answer == drawn[5].answer  # by its own name
    assert [each.answer for each in drawn] != [each.answer for each in with_drawn_answers(questions, seed=2)]
    assert all(after.prompt == before.prompt for before, after in zip(questions, drawn, strict=True))


def test_consistent_draws_are_a_subjects_own_and_right_by_chance_alone() -> None:
    choices = [["善", "不善", "无记"], ["有对", "无对"]]
    asked_for = {"skills": ["三性", "有对无对"], "choices": choices, "answer_type": "ordered_list"}
    subjects = [f"subject {number}" for number in range(300)]
    questions = [
        question(n, ["善", "有对"], **asked_for).model_copy(update={"reasoning": subject})
        for n, subject in enumerate(20 * subjects)
    ]
    drawn = with_drawn_answers(questions, 1, consistent=0.5)
    said: dict[str, Counter[str]] = {subject: Counter() for subject in subjects}
    for each in drawn:
        said[each.reasoning][each.answer[0]] += 1
    most = [counts.most_common(1)[0] for counts in said.values()]
    assert sum(count for _, count in most) / 6000 == pytest.approx(0.5 + 0.5 / 3, abs=0.05)
    assert sum(item == "善" for item, _ in most) / 300 == pytest.approx(1 / 3, abs=0.1)  # the subject's own is chance
    assert sum(each.answer[0] == "善" for each in drawn) / 6000 == pytest.approx(1 / 3, abs=0.04)


def test_answers_are_drawn_only_where_the_items_have_names() -> None:
    with pytest.raises(UserError, match=r"key 'warmup.answers'.*q-7, of kind lists"):
        with_drawn_answers([question(7, ["善"], answer_type="ordered_list")], seed=1)

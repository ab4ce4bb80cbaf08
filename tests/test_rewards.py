"""Properties of every declared regime."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upaya.answers import TAGS, gold_completion, parse
from upaya.errors import UserError
from upaya.questions import Question
from upaya.rewards.components import COMPONENTS, exact
from upaya.rewards.regimes import RegimesFile, load_regimes
from upaya.validation import validated

REGIMES = load_regimes(Path(__file__).parents[1] / "params/regimes.yaml")


def question(answer: object, answer_type: str) -> Question:
    return Question(
        id="q", kind="k", split="test", key="k", prompt="问", answer=answer, answer_type=answer_type, reasoning="眼界",
        source="俱舍論", prompt_traditional="問", answer_traditional=answer,
    )  # fmt: skip


QUESTIONS = [
    question(["无见", "有对", "无记及善"], "ordered_list"),
    question(["眼界", "耳界"], "set"),
    question("命根", "term"),
    question(10, "number"),
    question(True, "boolean"),
]
pieces = st.sampled_from([*TAGS, "无见", "有对", "、", "命根", "10", "十", "是", "否", "眼界", " ", "\n", "𝕏", "\x00"])
completions = st.one_of(st.text(), st.lists(pieces, max_size=12).map("".join))


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda q: q.answer_type)
@pytest.mark.parametrize("name", REGIMES)
def test_a_strictly_right_completion_has_the_maximum(name: str, asked: Question) -> None:
    assert REGIMES[name].score(parse(asked.gold), asked) == pytest.approx(REGIMES[name].maximum)


@pytest.mark.parametrize("name", REGIMES)
@given(text=completions, asked=st.sampled_from(QUESTIONS))
def test_no_other_completion_reaches_it_and_every_score_is_in_range(name: str, text: str, asked: Question) -> None:
    regime, completion = REGIMES[name], parse(text)
    score = regime.score(completion, asked)
    assert math.isfinite(score) and regime.floor <= score <= regime.maximum + 1e-12
    if not exact(completion, asked):
        assert score < regime.maximum - 1e-9


@pytest.mark.parametrize("name", COMPONENTS)
@given(text=completions, asked=st.sampled_from(QUESTIONS))
def test_components_stay_between_0_and_1(name: str, text: str, asked: Question) -> None:
    assert 0 <= COMPONENTS[name](parse(text), asked) <= 1


@pytest.mark.parametrize("name", REGIMES)
def test_a_megabyte_is_scored_at_once(name: str) -> None:
    for text in ("无" * 1_000_000, "<answer>" + "无见、" * 300_000, "<think>" * 150_000):
        assert math.isfinite(REGIMES[name].score(parse(text), QUESTIONS[0]))


def test_lenient_rises_with_every_right_position_and_strict_only_at_the_end() -> None:
    asked = QUESTIONS[0]
    assert isinstance(asked.answer, list)
    answers = [asked.answer[:n] + ["误"] * (3 - n) for n in range(4)]
    lenient, strict = (
        [REGIMES[name].score(parse(gold_completion(answer, "")), asked) for answer in answers]
        for name in ("lenient", "strict")
    )
    assert lenient == sorted(set(lenient))
    assert strict[0] == strict[1] == strict[2] < strict[3]


def test_listing_more_than_was_asked_does_not_pay() -> None:
    asked = QUESTIONS[0]
    assert isinstance(asked.answer, list)
    more = parse(gold_completion([*asked.answer, "有见", "无对"], ""))
    assert REGIMES["lenient"].score(more, asked) < REGIMES["lenient"].score(parse(asked.gold), asked)


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        ({"components": {"format": {"weight": -1}}}, "regimes.r.components.format.weight"),
        ({"components": {"positons": {"weight": 1}}}, "did you mean 'positions'"),
        ({"components": {"format": {"wieght": 1}}}, "did you mean 'weight'"),
        ({"components": {"format": {"weight": "much"}}}, "should be a valid number"),
        ({"components": {"format": {"weight": 0}}}, "rewards nothing"),
    ],
)
def test_a_wrong_declaration_names_key_and_cure(regime: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        validated(RegimesFile, {"regimes": {"r": regime}}, "params/regimes.yaml")

"""Properties of every declared regime."""

import itertools
import math
import random
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upaya.corpus.answers import TAGS, Form, gold_completion, parse
from upaya.corpus.questions import Question
from upaya.declared.regimes import Regime, RegimesFile
from upaya.declared.validation import validated
from upaya.errors import UserError
from upaya.rewards.components import COMPONENTS, exact
from upaya.rewards.regimes import check, levels, load_regimes, need_full_marks, reward_of_text
from upaya.rewards.scoring import score
from upaya.rewards.specimens import TYPICAL, degenerate, is_right, perturbed

REGIMES = load_regimes(Path(__file__).parents[1] / "params/regimes.yaml").plain
SATURATING = {name for name, regime in REGIMES.items() if regime.declares_saturation}


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
    question("3.14", "number"),
    question("B", "choice"),
    question("the second aggregate", "text"),
    question('{"a": [1, 2]}', "json"),
    question("x^2+1", "math"),
]
pieces = st.sampled_from(
    [*TAGS, "无见", "有对", "、", "命根", "10", "十", "是", "否", "眼界", " ", "\n", "𝕏", "\x00", "3.14", "B", "(b)",
     "aggregate", "second", '{"a":', "[1,2]", "}", "x^2", "+1", "$"]
)  # fmt: skip
completions = st.one_of(st.text(), st.lists(pieces, max_size=12).map("".join))


SAYING_NOTHING = {"format", "length", "script", "repetition"}  # of whether the answer is right
SPELLINGS = [
    (QUESTIONS[3], ["10", "十", "10.0", "+10", "$10$", "10 legs", r"\boxed{10}", "20/2"],
     ["11", "9.99", "100", "10 or 11", "no"]),
    (QUESTIONS[5], ["3.14", "3.140", "314 %", "157/50"], ["3.1400001", "3.1", "3", "314"]),
    (QUESTIONS[6], ["B", "b", "(B)", "B) text"], ["A", "B or C", "C"]),
    (QUESTIONS[7], ["second aggregate", "The  SECOND aggregate."],
     ["secondaggregate", "the first aggregate", "the second aggregat"]),
    (QUESTIONS[8], ['{"a":[1.0,2]}'], ['{"a": [2, 1]}', '{"a": [1, 2]', '{"a": ["1", 2]}']),
    (QUESTIONS[9], ["1+x^2", "x²+1", "$x^{2}+1$"], ["x^2-1", "x^2+1+", "x^2"]),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "rights", "wrongs"), SPELLINGS, ids=lambda value: getattr(value, "answer_type", ""))
@pytest.mark.parametrize("name", REGIMES)
def test_whatever_is_right_has_the_maximum_and_nothing_wrong_does(
    name: str, asked: Question, rights: list[str], wrongs: list[str]
) -> None:
    regime = REGIMES[name]
    earned = [reward_of_text(regime, gold_completion(text, ""), asked) for text in rights]
    assert earned == [regime.maximum] * len(rights)
    assert all(reward_of_text(regime, gold_completion(text, ""), asked) < regime.maximum - 1e-9 for text in wrongs)


@pytest.mark.parametrize("component", sorted(COMPONENTS.keys() - SAYING_NOTHING))
@pytest.mark.parametrize(("asked", "rights", "wrongs"), SPELLINGS, ids=lambda value: getattr(value, "answer_type", ""))
def test_a_component_that_tells_right_from_wrong_does_so_in_every_spelling(
    component: str, asked: Question, rights: list[str], wrongs: list[str]
) -> None:
    measure = COMPONENTS[component]
    assert all(measure(parse(gold_completion(text, "")), asked) == 1 for text in rights)
    assert all(measure(parse(gold_completion(text, "")), asked) < 1 for text in wrongs)


@pytest.mark.parametrize("name", REGIMES)
@given(text=completions, said=completions, asked=st.sampled_from(QUESTIONS))
def test_a_right_answer_never_scores_below_a_wrong_one(name: str, text: str, said: str, asked: Question) -> None:
    wrong = gold_completion(said, "")
    for other in (text, wrong):
        if not exact(parse(other), asked):
            assert reward_of_text(REGIMES[name], other, asked) <= reward_of_text(REGIMES[name], asked.gold, asked)


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda q: q.answer_type)
@pytest.mark.parametrize("name", REGIMES)
def test_a_strictly_right_completion_has_the_maximum(name: str, asked: Question) -> None:
    assert reward_of_text(REGIMES[name], asked.gold, asked) == pytest.approx(REGIMES[name].maximum)


@pytest.mark.parametrize("name", REGIMES)
@given(text=completions, asked=st.sampled_from(QUESTIONS))
def test_no_other_completion_reaches_it_and_every_score_is_in_range(name: str, text: str, asked: Question) -> None:
    regime, completion = REGIMES[name], parse(text)
    score = reward_of_text(regime, text, asked)
    assert math.isfinite(score) and regime.floor <= score <= regime.maximum + 1e-12
    if not exact(completion, asked) and name not in SATURATING:
        assert score < regime.maximum - 1e-9


@pytest.mark.parametrize("name", COMPONENTS)
@given(text=completions, asked=st.sampled_from(QUESTIONS))
def test_components_stay_between_0_and_1(name: str, text: str, asked: Question) -> None:
    assert 0 <= COMPONENTS[name](parse(text), asked) <= 1


@pytest.mark.parametrize("name", REGIMES)
def test_a_megabyte_is_scored_at_once(name: str) -> None:
    for text in ("无" * 1_000_000, "<answer>" + "无见、" * 300_000, "<think>" * 150_000):
        assert math.isfinite(reward_of_text(REGIMES[name], text, QUESTIONS[0]))


@pytest.mark.parametrize("asked", TYPICAL, ids=lambda q: q.answer_type)
@pytest.mark.parametrize("name", REGIMES)
def test_only_declared_saturation_lets_something_wrong_earn_the_maximum(name: str, asked: Question) -> None:
    wrong = [specimen.text for specimen in degenerate(asked, TYPICAL)]
    wrong += [text for _, text in perturbed(asked, TYPICAL, random.Random(1))[1:]]
    tied = [text for text in wrong if reward_of_text(REGIMES[name], text, asked) >= REGIMES[name].maximum - 1e-9]
    assert not tied or name in SATURATING


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda q: q.answer_type)
def test_specimens_are_wrong_and_errors_grow(asked: Question) -> None:
    for specimen in degenerate(asked, QUESTIONS):
        assert not is_right(specimen.text, asked), specimen
    errors = [count for count, _ in perturbed(asked, QUESTIONS, random.Random(2))]
    assert errors[0] == 0 and errors == sorted(set(errors)) and len(errors) > 1


@pytest.mark.parametrize("said", ["眼界、耳界", "耳界、眼界"])
@pytest.mark.parametrize("name", REGIMES)
def test_a_set_in_any_order_is_right(name: str, said: str) -> None:
    assert reward_of_text(REGIMES[name], gold_completion(said, ""), QUESTIONS[1]) == REGIMES[name].maximum


@pytest.mark.parametrize("name", REGIMES)
def test_a_number_in_either_writing_is_right(name: str) -> None:
    assert reward_of_text(REGIMES[name], gold_completion("十", ""), QUESTIONS[3]) == REGIMES[name].maximum


def test_a_long_tail_after_the_right_answer_is_not_right() -> None:
    asked = QUESTIONS[2]
    tail = gold_completion(f"{asked.answer}{' ' * 5000}又", "")
    assert not exact(parse(tail), asked)


def test_strict_tells_malformed_from_wrong_from_right() -> None:
    asked, strict = QUESTIONS[0], REGIMES["strict"]
    scores = [reward_of_text(strict, text, asked) for text in ("无见", gold_completion("无见", ""), asked.gold)]
    assert scores == sorted(set(scores)) and levels(strict) >= 3


def test_a_two_valued_regime_is_known_as_one() -> None:
    two = Regime.model_validate({"components": {"exact": {"weight": 1}}, "penalties": {"malformed": 0.5, "wrong": 0.5},
                                 "floor": -0.5})  # fmt: skip
    assert levels(two) == 2


def test_over_long_is_punished_on_top() -> None:
    penalties = {"wrong": 0.5, "over_long": 0.25}
    regime = Regime.model_validate({"components": {"exact": {"weight": 1}}, "penalties": penalties, "floor": -1})
    short, long = gold_completion("无见", ""), gold_completion(["无见"] * 20, "")
    assert [reward_of_text(regime, text, QUESTIONS[0]) for text in (short, long)] == [-0.5, -0.75]


def test_a_regime_that_a_wrong_completion_satisfies_is_refused() -> None:
    blind = Regime.model_validate({"components": {"overlap": {"weight": 1}, "format": {"weight": 0.1}}})
    with pytest.raises(UserError, match="wrong order"):
        check("blind", blind, "params/regimes.yaml")


def test_declared_saturation_is_named() -> None:
    said = check("s", REGIMES["lenient-saturating"], "params/regimes.yaml")
    assert said and "2 of 8 items wrong" in said and "3 of 8" not in said


def test_all_regimes_at_once_score_as_each_alone() -> None:
    texts = [["", asked.gold, gold_completion("误", ""), asked.gold] for asked in QUESTIONS]
    found = score(texts, QUESTIONS, REGIMES)
    for name, regime in REGIMES.items():
        alone = [[reward_of_text(regime, t, q) for t in group] for group, q in zip(texts, QUESTIONS, strict=True)]
        assert found.rewards_PG[name].tolist() == alone
    assert found.exact_PG.tolist() == [[False, True, False, True]] * len(QUESTIONS)
    assert set(found.components_PG) == {name for regime in REGIMES.values() for name in regime.components}


# --- components --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said", "value"),
    [
        ("positions", "无见、有对", 2 / 3),
        ("positions", "有对、无见、无记及善", 1 / 3),
        ("overlap", "无记及善、有对、无见", 1),
        ("order", "无见、无记及善", 2 / 3),
        ("order", "无记及善、有对、无见", 1 / 3),
        ("similarity", "无见、有对、无记及善", 1),
        ("length", "无见、有对、无记及善", 1),
        ("length", "无见、有对、无记及善" * 2, 1 / 2),
        ("repetition", "无见、无见、无见、有对", 1 / 2),
        ("script", "無見、有對、無記及善", 1 / 2),
    ],
)
def test_what_a_component_measures(name: str, said: str, value: float) -> None:
    assert COMPONENTS[name](parse(gold_completion(said, "")), QUESTIONS[0]) == pytest.approx(value)


def test_nearer_numbers_are_closer() -> None:
    found = [COMPONENTS["closeness"](parse(gold_completion(n, "")), QUESTIONS[3]) for n in (10, 11, 13, 30)]
    assert found == sorted(found, reverse=True) and found[0] == 1


def close(said: object, answer: object, **more: object) -> float:
    asked = question(answer, "number").model_copy(update=more)
    return COMPONENTS["closeness"](parse(gold_completion(str(said), "")), asked)


@given(st.integers(-10, 10), st.integers(-1000, 1000))
def test_among_small_whole_numbers_a_step_is_a_step(right: int, said: int) -> None:
    assert close(said, right) == pytest.approx(1 / (1 + abs(said - right)), rel=1e-5)


@pytest.mark.parametrize("right", ["0.001", "0.5", 3, "3.14", 18, -7, 1_000_000, "1/3", 0, 10**60])
def test_closeness_falls_strictly_with_the_distance_at_every_scale(right: int | str) -> None:
    size = abs(Fraction(right)) or 1
    shares = [Fraction(0), Fraction(1, 10**9), *(Fraction(n, 20) for n in (1, 2, 4, 10, 20, 40, 400))]
    for direction in (1, -1):
        found = [close(Fraction(right) + direction * share * size, right) for share in shares]
        assert found[0] == 1 and found[1] <= 1 - 1e-6 and min(found) >= 0
        assert all(after < before for before, after in itertools.pairwise(found))


def test_a_tenth_off_is_half_way_and_the_tolerance_is_right() -> None:
    assert close(1_100_000, 1_000_000) == pytest.approx(0.5, rel=1e-5) == close("0.55", "0.5")
    assert close("3.15", "3.14", tolerance=0.01) == 1 > close("3.16", "3.14", tolerance=0.01) > close("3.17", "3.14")
    assert close("0.12", 12, unit="%") < close("11 %", 12, unit="%") < close("12 %", 12, unit="%") == 1
    assert close("4 or 5", 4) == 0 and close("1e999", 4) < 1e-9


@pytest.mark.parametrize("asked", QUESTIONS[7:], ids=lambda q: q.answer_type)
def test_similarity_has_a_slope(asked: Question) -> None:
    found = [COMPONENTS["similarity"](parse(text), asked) for _, text in perturbed(asked, QUESTIONS, random.Random(3))]
    assert found[0] == 1 and found[-1] < found[1] < 1 and found == sorted(found, reverse=True)


GOLDS = [
    *QUESTIONS,
    *TYPICAL,
    question("12 %", "number"),
    question(12, "number").model_copy(update={"unit": "%", "tolerance": 0.5}),
    question(r"\frac{1}{2}", "number"),
    question("1,234", "number"),
]


@pytest.mark.parametrize("form", ["boxed", "last line"])
def test_a_regime_rewards_the_form_that_a_question_asks_for(form: Form) -> None:
    """Whatever a regime promises of the tags it keeps in other forms: right in form earns the most, a hack less."""
    golds = [question.model_copy(update={"form": form}) for question in [*QUESTIONS, *GOLDS]]
    need_full_marks(golds, REGIMES)
    for question in golds:
        for regime in (REGIMES["lenient"], REGIMES["strict"]):
            for specimen in degenerate(question, golds):
                assert reward_of_text(regime, specimen.text, question) < regime.maximum
            in_tags = gold_completion(question.answer, "")
            assert reward_of_text(regime, in_tags, question) < regime.maximum


def test_every_gold_has_full_marks() -> None:
    need_full_marks(GOLDS, REGIMES)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (question("4 or 5", "number"), "'4 or 5' is read as nothing. Write one number"),
        (question(["甲、乙", "丙"], "set"), "'甲、乙、丙' is read as ['甲', '乙', '丙']. Give items"),
        (question("B or C", "choice"), "'B or C' is read as nothing. Write the letter alone"),
        (question("{'a': 1}", "json"), "is read as nothing. Write one JSON value"),
        (question("", "text"), "Write at least one word"),
        (question("</answer>", "text"), "its form is not read as the right one. Take <think>"),
        (question("命根", "term").model_copy(update={"reasoning": "<think>"}), "out of its reasoning"),
    ],
)
def test_a_gold_without_full_marks_is_named(asked: Question, message: str) -> None:
    with pytest.raises(UserError) as refused:
        need_full_marks([*QUESTIONS, asked.model_copy(update={"id": "mine"})], REGIMES)
    said = str(refused.value)
    assert "question 'mine' (俱舍論): its own answer" in said and message in said and "under strict" in said


def test_what_is_not_given_is_not_written_to_the_questions() -> None:
    assert not {"tolerance", "unit"} & question(4, "number").model_dump().keys()
    given = question(4, "number").model_copy(update={"tolerance": 0.5, "unit": "km"})
    assert Question.model_validate(given.model_dump()) == given


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's, beside which a command is started."""
    (tmp_path / "mine.py").write_text(
        "def brief(completion, question):\n    return float(len(completion.text) < 60)\n"
        "def much(completion, question):\n    return 1.7\n"
        "def broken(completion, question):\n    return 1 / 0\n"
    )
    monkeypatch.chdir(tmp_path)


def regime_with(name: str) -> dict[str, object]:
    regime = {"components": {"exact": {"weight": 1}, name: {"weight": 0.1}}}
    return {"regimes": {"r": regime}, "measured": {"r": regime}}


def test_a_component_of_ones_own_is_named_by_its_path(own: None) -> None:
    regime = validated(RegimesFile, regime_with("mine.brief"), "f").plain["r"]
    assert reward_of_text(regime, "无见", QUESTIONS[0]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.breif", "no function 'breif'; did you mean 'brief'"),
        ("mein.brief", "cannot import 'mein'"),
        ("formt", "did you mean 'format'"),
        ("positons", "did you mean 'positions'"),
    ],
)
def test_a_wrong_path_is_answered_on_load(own: None, name: str, message: str) -> None:
    with pytest.raises(UserError, match=f"f: key 'regimes.r.components': .*{message}"):
        check("r", validated(RegimesFile, regime_with(name), "f").plain["r"], "f")


@pytest.mark.parametrize(
    ("name", "message"), [("much", "1.7 for question"), ("broken", "ZeroDivisionError.*mine.py:6")]
)
def test_a_component_that_breaks_its_promise_is_named(own: None, name: str, message: str) -> None:
    regime = validated(RegimesFile, regime_with(f"mine.{name}"), "f").plain["r"]
    with pytest.raises(UserError, match=message):
        reward_of_text(regime, "无见", QUESTIONS[0])


def test_lenient_rises_with_every_right_position_and_strict_only_at_the_end() -> None:
    asked = QUESTIONS[0]
    assert isinstance(asked.answer, list)
    answers = [asked.answer[:n] + ["误"] * (3 - n) for n in range(4)]
    lenient, strict = (
        [reward_of_text(REGIMES[name], gold_completion(answer, ""), asked) for answer in answers]
        for name in ("lenient", "strict")
    )
    assert lenient == sorted(set(lenient))
    assert strict[0] == strict[1] == strict[2] < strict[3]


def test_listing_more_than_was_asked_does_not_pay() -> None:
    asked = QUESTIONS[0]
    assert isinstance(asked.answer, list)
    more = gold_completion([*asked.answer, "有见", "无对"], "")
    assert reward_of_text(REGIMES["lenient"], more, asked) < reward_of_text(REGIMES["lenient"], asked.gold, asked)


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        ({"components": {"format": {"weight": -1}}}, "regimes.r.components.format.weight"),
        ({"components": {"format": {"wieght": 1}}}, "did you mean 'weight'"),
        ({"components": {"format": {"weight": "much"}}}, "should be a valid number"),
        ({"components": {"format": {"weight": 0}}}, "rewards nothing"),
    ],
)
def test_a_wrong_declaration_names_key_and_cure(regime: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        validated(RegimesFile, {"regimes": {"r": regime}, "measured": {"r": regime}}, "params/regimes.yaml")

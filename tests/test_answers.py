import pytest
from hypothesis import given
from hypothesis import strategies as st

from upaya.corpus.answers import is_exact, number, parse, render

COMPLETE = "<think>眼界</think><answer>无见、有对</answer>"


@pytest.mark.parametrize(
    ("text", "well_formed"),
    [
        (COMPLETE, True),
        (f" {COMPLETE}\n", True),
        ("<answer>无见、有对</answer>", False),
        ("<think>a</think><answer></answer>", False),
        (f"{COMPLETE}又", False),
        (f"{COMPLETE}<answer>二</answer>", False),
        ("<answer>a</answer><think>b</think>", False),
        ("<think>a</think><answer>b", False),
        ("", False),
    ],
)
def test_well_formed_is_the_whole_form_and_nothing_else(text: str, well_formed: bool) -> None:
    assert parse(text).well_formed is well_formed


@given(st.text())
def test_parsing_takes_any_text(text: str) -> None:
    parse(text)


def test_a_megabyte_of_tags_is_parsed_at_once() -> None:
    assert not parse("<answer><think>" * 100_000).well_formed


@pytest.mark.parametrize(("text", "value"), [("十", 10), ("10", 10), ("二十二", 22), ("１０", 10), ("九十八", 98)])
def test_numerals_are_numbers(text: str, value: int) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "十界", "a", "三四五六七八九十一二三四五六七八九十一二"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert number(text) is None


def test_a_set_ignores_order_and_a_list_does_not() -> None:
    assert is_exact("乙、甲", ["甲", "乙"], "set")
    assert not is_exact("乙、甲", ["甲", "乙"], "ordered_list")
    assert not is_exact("甲、乙、乙", ["甲", "乙"], "set")
    assert is_exact("甲，乙。", ["甲", "乙"], "ordered_list")


@given(st.booleans())
def test_a_boolean_is_right_one_way_only(answer: bool) -> None:
    assert is_exact(render(answer), answer, "boolean")
    assert not is_exact(render(not answer), answer, "boolean")
    assert not is_exact("是否", answer, "boolean")

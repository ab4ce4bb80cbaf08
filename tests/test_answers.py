import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from time import perf_counter
from typing import get_args

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from upaya.corpus.answers import ANSWER_TYPES, Answer, AnswerType, Form, gold_completion, parse, render
from upaya.corpus.expressions import expression
from upaya.corpus.matching import Expected, is_exact, reading
from upaya.corpus.numerals import number

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


@pytest.mark.parametrize(
    ("text", "form", "answer", "share"),
    [
        (r"so \boxed{4}.", "boxed", "4", 1),
        (r"$$\boxed{\frac{1}{2}}$$", "boxed", r"\frac{1}{2}", 1),
        (r"\boxed {4}", "boxed", "4", 1),
        (r"\boxed{3} or \boxed{4}", "boxed", "4", 1 / 3),
        (r"\boxed{4", "boxed", "4", 1 / 3),
        (r"\boxed{}", "boxed", "", 2 / 3),
        ("4", "boxed", None, 0),
        ("thinking\nAnswer: 4", "last line", "4", 1),
        ("**Answer:** 4\n", "last line", "4", 1),
        ("最后\n答案：善、恶", "last line", "善、恶", 1),
        ("Final answer: 4", "last line", "4", 1),
        ("Answer: 4\nor so", "last line", "4", 1 / 2),
        ("Answer: 3\nAnswer: 4", "last line", "4", 0),
        ("Answer:", "last line", "", 1 / 2),
        ("the Answer: 4", "last line", None, 0),
    ],
)
def test_a_form_says_where_the_answer_stands(text: str, form: Form, answer: str | None, share: float) -> None:
    said = parse(text, form)
    assert (said.answer, said.form) == (answer, pytest.approx(share)) and said.well_formed is (share == 1)
    if answer:
        assert text[said.answer_at :].startswith(answer)


@given(st.text() | st.lists(st.sampled_from([r"\boxed{", "}", "{", "Answer:", "\n", "4", "**"])).map("".join))
def test_any_text_has_its_share_of_any_form(text: str) -> None:
    for form in get_args(Form):
        said = parse(text, form)
        assert 0 <= said.form <= 1 and (not said.well_formed or said.answer)
        assert said.answer is None or text[said.answer_at :].startswith(said.answer)


@pytest.mark.parametrize("form", get_args(Form))
def test_what_is_taught_is_read_back_in_every_form(form: Form) -> None:
    for reasoning in ("", "3 + 1"):
        said = parse(gold_completion("4", reasoning, form), form)
        assert said.well_formed and said.answer == "4"
    long = f"{gold_completion('4', '', form)}\n" * 100_000
    assert not parse(long, form).well_formed  # and in time


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


def right(text: str, answer: Answer, answer_type: AnswerType, tolerance: float = 0, unit: str = "") -> bool:
    return is_exact(text, Expected(answer, answer_type, tolerance, unit))


def test_a_set_ignores_order_and_a_list_does_not() -> None:
    assert right("乙、甲", ["甲", "乙"], "set")
    assert not right("乙、甲", ["甲", "乙"], "ordered_list")
    assert not right("甲、乙、乙", ["甲", "乙"], "set")
    assert right("甲，乙。", ["甲", "乙"], "ordered_list")


@given(st.booleans())
def test_a_boolean_is_right_one_way_only(answer: bool) -> None:
    assert right(render(answer), answer, "boolean")
    assert not right(render(not answer), answer, "boolean")
    assert not right("是否", answer, "boolean")


# --- what is read as equal --------------------------------------------------------------------------------------------

# Of each gold: the texts that are right, and those that are not. The traps are what a hasty reader takes for right.
NUMBERS: list[tuple[int | str, list[str], list[str]]] = [
    (
        4,
        ["4", "4.0", "4.", "4。", "+4", "４", "$4$", "$$4$$", r"\(4\)", r"\[4\]", r"\boxed{4}", r"$\boxed{4}$", "**4**",
         "**4**.", "`4`", " 4 ", "4 legs", "4 km", "4km", "4 km/h", "4 m²", "€ 4", "4 €", "$4", r"\$4", "四", "④",
         "8/2", "$4$ legs",
         r"4\text{ km}", r"4 \mathrm{kg}", "4 noble truths", "4e0", r"\frac{8}{2}", "400 %", "4 °C", "04"],
        ["", "5", "-4", "4 or 5", "4, 5", "4、5", "between 4 and 5", "4 5", "x=4y", "x = 4", "4y", "4 x", "4x",
        "4 or five",
         "4 million", "4 dozen", "4k", "4 thousand", "4th", "4-5", "4–5", "4:5", "4/5", "4!", "4 squared", "4²",
         "4^2", "4 halves",
         "4 %", "4.1", "4.0.0", "4..", "4,", "--4", "±4", "about 4", "not 4", "(4)", "4 is wrong", "$4$ or $5$",
         r"\boxed{4}5",
         "**4** and **5**", "44", "4 4", "4人", "4 half", "four", "Ⅳ", "4\n5", "4i"],
    ),
    (-4, ["-4", "−4", "－4", "- 4", "–4", "$-4$", r"\boxed{-4}", "负四", "-4.0"], ["4", "--4", "(4)", "4-", "—4"]),
    (
        1234,
        ["1,234", "1 234", "1\u202f234", "1\u00a0234", "1_234", "1，234", "1'234", "1{,}234", r"1\,234", "$1,234$",
        "1,234.0", "€1,234",
         "1,234 legs", "1.234e3", "1.234×10^3", r"1.234 \times 10^{3}", "一千二百三十四"],
        ["1.234", "1, 234", "12,34", "1,23,4", "1,2345", "1,234,", "1  234", "1;234", "1\n234", "$1$ 234", "1-234",
        "1 234 5"],
    ),
    (1000000, ["1,000,000", "1 000 000", "1e6", "1000000", "一百万", "100万"], ["1,000 000", "1 million", "1,000"]),
    (
        "1/2",
        ["1/2", "0.5", ".5", "½", r"\frac{1}{2}", r"\frac12", r"\dfrac{1}{2}", r"$\frac{1}{2}$", "2/4", "50 %", "50%",
        r"50\%",
         "50 percent", "1 / 2", "+1/2", "0.50", "5e-1", "零点五", "百分之五十", "1/2 km", r"\boxed{\frac{1}{2}}"],
        ["0,5", "1/2/1", "1:2", "1 2", "2/1", "12", "1/0", "half", "0.5000000001", "-½", "50", "1 or 2"],
    ),
    ("4.5", ["4½", "4 1/2", "9/2", "4.5", "4.50", r"4\frac{1}{2}", "+4.5"], ["41/2", "4 5", "4,5", "4 3/2",
    "4 1/2 3"]),
    ("3.14", ["3.14", "3.140", "314/100", "$3.14$"], ["3.1", "3.141", "3,14", "3.14159", "π"]),
    ("0.1", ["0.1", ".1", "1/10", "10 %"], ["0.10000000000000001", "0.1000000001"]),
    (10, ["十", "10", "１０", "10.0", "拾"], ["十界", "10 or 十"]),
    (0, ["0", "-0", "0.0", "零", "0 %", "0/5"], ["", "O", "o", "00 0"]),
]  # fmt: skip

UNITS: list[tuple[int | str, str, float, list[str], list[str]]] = [
    (12, "%", 0, ["12", "12 %", "12%", r"12\%", "12 percent", "百分之十二"], ["0.12", "12 km", "1200 %", "12 ‰"]),
    (4, "km", 0, ["4", "4 km", "4km", r"4\text{ km}"], ["4 m", "4 legs", "4 %", "4000 m", "4 Km", "€4"]),
    (4, "legs", 0, ["4 legs", "4 Legs", "4"], ["4 arms", "4 leg"]),
    (4, "€", 0, ["€4", "€ 4", "4 €", "4"], ["$4", "4 km"]),
    (4, "界", 0, ["4界", "四界", "四", "4"], ["4处", "四处"]),
    ("3.14", "", 0.01, ["3.14", "3.13", "3.15", "3.145"], ["3.1299", "3.1501", "3.2", "3", "-3.14"]),
    (1, "", 0.1, ["1.1", "0.9", "1"], ["1.1000000000000001", "0.89999"]),
    (12, "%", 0.5, ["12.5 %", "11.5"], ["0.12", "12.6"]),
]  # fmt: skip

OTHERS: list[tuple[AnswerType, str, list[str], list[str]]] = [
    (
        "choice", "B",
        ["B", "b", "(b)", "(B)", "[B]", "B.", "B)", "b)", "B:", "B) text", "B. text", "(B) text", "**B**",
        "**B.** text", "Answer: B",
         "answer is (B)", "The correct answer is B.", "Option B", "Ｂ", "$B$", r"\boxed{B}", r"$\boxed{\text{B}}$",
         "B) vitamin C",
         "答案：B", "答案是B", "选B", "B) a dog", "B. B", "B - text"],
        ["", "A", "A or B", "B or C", "A, B", "B, C", "B/C", "B) or C)", "(A) (B)", "B. C", "B) text; C) text", "AB",
        "BB", "not B", "B text",
         "B and A", "Bob", "Answer: B or C", "B) text or C", "(A) B", "A) B", "Answer:", "B是错的", "Answer: C",
         "B) or (C)"],
    ),
    (
        "text", "the Great Wall",
        ["the Great Wall", "Great Wall", "great wall", "The great  wall.", '"The Great Wall"', "Ｇreat Wall",
        "a great wall!", "GREAT\nWALL"],
        ["Greatwall", "Great Walls", "the Wall", "Great Wall of China", "Wall Great", "", "great, wall"],
    ),
    ("text", "vitamin A", ["Vitamin A", "vitamin a.", "the vitamin A"], ["vitamin", "vitamin B", "A vitamin"]),
    ("text", "the", ["the", "The."], ["a", "", "."]),
    ("text", "it’s -4", ["it's -4", "IT'S -4"], ["its -4", "it's 4"]),
    ("text", "C#", ["C#", "c#"], ["C", "C++"]),
    ("text", "Straße", ["STRASSE", "strasse"], ["Strase"]),
    (
        "json", '{"a": 1, "b": [true, "x"]}',
        ['{"b":[true,"x"],"a":1}', '{"a": 1.0, "b": [true, "x"]}', '```json\n{"a": 1, "b": [true, "x"]}\n```',
        '{"a":10e-1,"b":[true,"\\u0078"]}'],
        ['{"a": 1, "b": ["x", true]}', '{"a": "1", "b": [true, "x"]}', '{"a": 1, "b": [1, "x"]}', '{"a": 1}',
        "{'a': 1, 'b': [True, 'x']}", "",
         '{"a": 1, "b": [true, "X"]}', '{"a": 1, "a": 1, "b": [true, "x"]}', '{"a": 1, "b": [true, "x"]} or so',
         '{"a": true, "b": [true, "x"]}'],
    ),
    ("json", "0.1", ["0.1", "1e-1", "0.10"], ["0.10000000000000001", "1", "NaN", '"0.1"']),
    ("json", "null", ["null"], ["None", "", "false", "0", "Infinity"]),
    ("json", "1e400", ["1e400", "10e399"], ["1e401", "1e999999999", "Infinity"]),
    (
        "math", "x^2-1",
        ["x^2-1", "(x-1)(x+1)", "$x^2-1$", r"\boxed{x^2-1}", "-1+x^2", "x**2 - 1", "x²-1", "x^{2}-1", "y=x^2-1"],
        ["x^2+1", "x^2", "x-1", "y^2-1", "", "the", "x^2-1 or 3", "9^{9^{9^9}}", r"\sum_{i=1}^{n} i", "x^2-1、无"],
    ),
    (
        "math", r"\frac{1}{2}",
        ["1/2", "0.5", r"\frac12", "½", r"\dfrac{1}{2}", "50%", "2/4", r"\sin(\pi/6)"],
        ["2", "0.49999", "0.5000001", r"\frac{1}{3}", "1", "((((", r"\frac{1}{", "1/2 and 3"],
    ),
    ("math", r"2\sqrt{2}", [r"\sqrt{8}", "√8", "2√2", "2*sqrt(2)"], ["2.828", r"\sqrt{2}", "4"]),
    ("math", r"\pi", ["π", r"\pi", r"$\pi$", r"\frac{2\pi}{2}"], ["3.14", "3.14159265", "p"]),
    ("math", "(1,2]", ["(1,2]", "(1, 2]"], ["[1,2]", "(1,2)", "1.2"]),
    ("math", r"\{1,2\}", [r"\{2,1\}", r"\{1, 2\}"], [r"\{1,3\}", r"\{1\}"]),
    ("term", "命根", ["命根", "命根。", " 命 根 "], ["命", "命根及", "「命根」"]),
    ("boolean", True, ["是", "yes", "True"], ["否", "1", "是否"]),
]  # fmt: skip

GOLDS: list[tuple[AnswerType, int | str, str, float, list[str], list[str]]] = [
    *(("number", gold, "", 0, *said) for gold, *said in NUMBERS),  # type: ignore[misc]
    *(("number", gold, unit, tolerance, *said) for gold, unit, tolerance, *said in UNITS),  # type: ignore[misc]
    *((answer_type, gold, "", 0, *said) for answer_type, gold, *said in OTHERS),  # type: ignore[misc]
]
CASES = [
    (text, Expected(gold, answer_type, tolerance, unit), verdict)
    for answer_type, gold, unit, tolerance, rights, wrongs in GOLDS
    for verdict, texts in ((True, rights), (False, wrongs))
    for text in texts
]


@pytest.mark.parametrize(("text", "gold", "verdict"), CASES)
def test_what_is_read_as_equal(text: str, gold: Expected, verdict: bool) -> None:
    assert is_exact(text, gold) is verdict


# --- properties -------------------------------------------------------------------------------------------------------

STYLES: list[Callable[[int], str]] = [
    str,
    lambda n: f"{n:+d}",
    lambda n: f"{n}.0",
    lambda n: f"{n}.",
    lambda n: f"{n:,}",
    lambda n: f"{n:_}",
    lambda n: f"{n:,}".replace(",", " "),
    lambda n: f"{n:,}".replace(",", "，"),
    lambda n: f"{n:,}".replace(",", "{,}"),
    lambda n: str(n).replace("-", "−"),
    lambda n: f"${n}$",
    lambda n: rf"\({n}\)",
    lambda n: rf"\boxed{{{n}}}",
    lambda n: rf"$\boxed{{{n:,}}}$.",
    lambda n: f"**{n}**",
    lambda n: f"{n} legs",
    lambda n: f"{n:,} km",
    lambda n: f"{2 * n}/2",
    lambda n: rf"\frac{{{3 * n}}}{{3}}",
    lambda n: f"{100 * n} %",
    lambda n: f"{n}e0",
    lambda n: "".join(chr(ord(c) + 0xFEE0) for c in str(n)),
]


@pytest.mark.parametrize("style", range(len(STYLES)))
@given(st.integers(-(10**15), 10**15))
def test_a_number_in_any_style_is_read_back(style: int, value: int) -> None:
    assert number(STYLES[style](value)) == value


@given(st.fractions(-(10**6), 10**6, max_denominator=10**6))
def test_a_fraction_is_read_back(value: Fraction) -> None:
    assert number(str(value)) == value
    assert number(rf"$\frac{{{value.numerator}}}{{{value.denominator}}}$") == value


@given(st.decimals(-(10**9), 10**9, places=6))
def test_a_decimal_is_read_exactly(value: object) -> None:
    written = f"{value:f}"
    assert number(written) == Fraction(written)
    assert number(f"{value:,f} km") == Fraction(written)


@given(st.integers(), st.sampled_from([", ", " or ", " and ", "; ", "、", " - ", "\n", ": "]), st.integers())
def test_two_numbers_are_none(first: int, between: str, second: int) -> None:
    assert number(f"{first}{between}{second}") is None


pieces = st.sampled_from(
    ["4", "1", "½", "²", "%", "$", "\\boxed{", "}", "{", "\\frac{1}{2}", "**",
     ",", ".", " ", "-", "e", "十", "百分之", "/", "x", "km",
     "^", "(", ")", "B", "or", '"', "[", ":", "true", "```", "\\sqrt", "=", "Answer", "\ud800", "\x00", "√", "!", "\\"]
)  # fmt: skip
anything = st.one_of(st.text(), st.lists(pieces, max_size=30).map("".join))
GOLD_BY_TYPE: dict[AnswerType, Answer] = {
    "number": "0.5", "term": "命根", "ordered_list": ["甲"], "set": ["甲"], "boolean": True, "choice": "B",
    "text": "the Wall", "json": "[1]", "math": "x+1",
}  # fmt: skip


@pytest.mark.parametrize("answer_type", ANSWER_TYPES)
@given(text=anything)
def test_any_text_is_matched_without_an_error(answer_type: AnswerType, text: str) -> None:
    asked = Expected(GOLD_BY_TYPE[answer_type], answer_type)
    assert is_exact(text, asked) in (True, False)
    reading(text, asked)


@pytest.mark.parametrize("answer_type", ANSWER_TYPES)
def test_a_gold_is_right_and_what_it_is_read_as_is_shown(answer_type: AnswerType) -> None:
    asked = Expected(GOLD_BY_TYPE[answer_type], answer_type)
    assert is_exact(render(asked.answer), asked) and reading(render(asked.answer), asked) is not None


SEEDS = [
    "1",
    "1 ",
    "1,111",
    "$",
    "\\boxed{",
    "{",
    "[",
    "\\frac",
    "B) ",
    "B or ",
    "a ",
    '{"a":',
    "^9",
    "(",
    "十",
    "``",
    "²",
]


@pytest.mark.parametrize("answer_type", ANSWER_TYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_long_is_matched_at_once(answer_type: AnswerType, seed: str) -> None:
    started = perf_counter()
    for length in (64, 160, 1000, 20_000, 300_000):
        is_exact((seed * length)[:length], Expected(GOLD_BY_TYPE[answer_type], answer_type))
    assert perf_counter() - started < 10  # of what hangs, not of what is slow


@pytest.mark.parametrize(
    "text", ["9^{9^{9}}", "9^9^9", "(9^{999})^{999}", "0*((9^{999})^{999})^{999}", "0*(99!)!", "9^{99999}",
             "x^{100}+x>0",
             r"0*2^{\frac{10^{9}}{1}}", "(x+y+z)^{99}", r"\int_0^1 x dx", "1" * 160]
)  # fmt: skip
def test_what_could_take_long_is_no_expression(text: str) -> None:
    assert expression(text) is None


def test_expressions_are_compared_in_any_thread() -> None:
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(right("b+a", "a+b", "math"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_sympy_is_imported_for_an_expression_only() -> None:
    program = (
        "import sys; from upaya.rewards.regimes import load_regimes; load_regimes(); "
        "assert 'math_verify' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

"""The page to send to a colleague: whole without a network, true to what the stages wrote, readable on any screen."""

import base64
import json
import re
import zlib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser, found
from hypothesis import given
from hypothesis import strategies as st

from upaya.files import write_json, write_jsonl
from upaya.page.course import FATES, POINTS, Cheaply, Course, _binned, _cheaply, _spread
from upaya.page.writing import write_page
from upaya.rewards.specimens import TYPICAL

ARMS = ["lenient-strict", "scheduled"]
HOSTILE = '</script><img src=x onerror="document.title=1"><b>bold</b>'
in_browser = pytest.mark.skipif(found() is None, reason="no Chromium or Chrome is installed")


@pytest.fixture(scope="module")
def courses(built: Path) -> list[Course]:
    return [
        Course.model_validate_json((built / f"reports/courses/{name}.json").read_text(encoding="utf-8"))
        for name in ARMS
    ]


class Tags(HTMLParser):
    """Every address that a page's tags name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]


def unpacked(html: str) -> Any:
    """The data that a page carries."""
    (packed,) = re.findall(r'id="data">([^<]*)</script>', html)
    return json.loads(zlib.decompress(base64.b64decode(packed)))


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=3 * POINTS))
def test_a_long_course_is_thinned_evenly_and_keeps_its_mean(values: list[float | None]) -> None:
    thinned = _binned(values)
    assert len(thinned) <= POINTS and (len(values) > POINTS or len(thinned) == len(values))
    present = [value for value in values if value is not None]
    shown = [value for value in thinned if value is not None]
    assert bool(present) == bool(shown)
    assert all(min(present) - 1e-4 <= value <= max(present) + 1e-4 for value in shown)


@given(st.integers(0, 300), st.integers(1, 100))
def test_kept_groups_are_spread_from_first_to_last(count: int, most: int) -> None:
    kept = [{"place": place} for place in range(count)]
    places = [group["place"] for group in _spread(kept, most)]
    assert len(places) == min(count, most) and places == sorted(set(places))
    gaps = [after - before for before, after in zip([*places, count][:-1], [*places, count][1:], strict=True)]
    assert not gaps or max(gaps) <= -(-count // most)


def test_a_course_says_what_the_stages_wrote(built: Path, courses: list[Course]) -> None:
    for course in courses:
        metrics = json.loads((built / f"results/{course.name}/details.json").read_text())
        assert course.after == metrics
        steps = course.columns["step"]
        assert steps == list(range(1, metrics["total_steps"] + 1))
        assert {len(values) for values in (*course.columns.values(), *course.skills.values())} == {len(steps)}
        for under in ("trained", "strict"):
            for shares in zip(*(course.columns[f"{under}/{fate}"] for fate in FATES), strict=True):
                assert sum(share or 0 for share in shares) == pytest.approx(1, abs=1e-3)
        assert course.groups and {stage.name for stage in course.stages} >= {"base", "warmup", course.name}
        origin = json.loads((built / f"policies/{course.name}/policy.json").read_text())
        assert course.stages[-1].weights == origin["weights"]
        assert f"md5: {course.data}\n" in (built / "data.dvc").read_text()
        assert course.example is not None
        assert len(course.example.right) == len(course.example.before) == len(course.example.after)
    switched = courses[0]
    assert [switch["to"] for switch in switched.switches] == ["strict"]


@pytest.mark.parametrize("name", ["pages/lenient-strict.html", "pages/lenient.html", "compare/page.html"])
def test_a_page_is_whole_and_small(built: Path, name: str) -> None:
    html = (built / "reports" / name).read_text(encoding="utf-8")
    assert all(address.startswith(("#", "data:")) for address in Tags(html).addresses)
    assert len(html.encode()) < 4e6
    data = unpacked(html)
    several = name.startswith("compare")
    assert set(data["figures"]) == (set(ARMS) if several else {Path(name).stem})
    assert bool(data["together"]) == several
    for figures in data["figures"].values():
        assert set(figures) == {"success", "groups", "skills"}
        for figure in figures.values():
            assert figure["layout"]["xaxis"]


def test_the_best_rule_stands_beside_what_was_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the questions asked alone: at their difficulty where it has figures of its own, of those besides as a kind."""
    monkeypatch.chdir(tmp_path)
    asked = [("a", "gates", 2), ("b", "gates", 12), ("c", "gates", 12), ("d", "counts", 1)]
    typical = next(question for question in TYPICAL if question.answer_type == "term")
    questions = [
        typical.model_copy(update={"id": one, "kind": kind, "split": "test", "difficulty": n}) for one, kind, n in asked
    ]
    write_jsonl(Path("questions/test.jsonl"), (question.model_dump() for question in questions))
    write_jsonl(Path("questions/validation.jsonl"), ())
    for policy, right in {"warmup": "b", "mine": "bcd"}.items():
        rows = [
            {"id": one, "kind": "gates", "decoding": decoding, "prompt": one, "gold": "x", "completion": "x"}
            | {"exact": one in right and decoding == "greedy"}
            for one, decoding in (("b", "greedy"), ("c", "greedy"), ("b", "sampled"))
        ]
        write_jsonl(Path(f"results/{policy}/samples.jsonl"), rows)
    rules = {"gates, difficulty 2": {"x": 0.5}, "gates, difficulty 12": {"x": 0.1, "y": 0.2}, "counts": {"x": 0.3}}
    write_json(Path("questions/report.json"), {"baselines": rules})
    assert _cheaply("mine", {}, {"also": {"counts": {"strict_accuracy": 0.9}}}) == {
        "gates, difficulty 12": Cheaply(rule="y", accuracy=0.2, before=0.5, after=1.0),
        "counts": Cheaply(rule="x", accuracy=0.3, before=None, after=0.9),
    }
    write_json(Path("questions/report.json"), {"baselines": {}})
    assert _cheaply("mine", {}, {}) == {}


def test_what_is_cheaply_right_stands_on_the_page_where_it_is_known(courses: list[Course], tmp_path: Path) -> None:
    for course in courses:
        assert [found.after for found in course.cheaply.values()] == [
            pytest.approx(course.after["strict_accuracy"], abs=1e-5)
        ]
    group, found = next(iter(courses[0].cheaply.items()))
    write_page(courses, ARMS, "make compare", tmp_path / "page.html")
    row = re.search(f'<tr><th scope="row">{group}</th>.*?</tr>', (tmp_path / "page.html").read_text(), re.DOTALL)
    assert row and found.rule in row.group() and row.group().count("<td>") == 3 + len(courses)
    write_page([course.model_copy(update={"cheaply": {}}) for course in courses], ARMS, "", tmp_path / "without.html")
    assert "without knowing anything" not in (tmp_path / "without.html").read_text()


def test_the_same_files_make_the_same_page(courses: list[Course], tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_page(courses, ARMS, "make compare", tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


# --- as a reader sees it ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Page]]:
    with browser(tmp_path_factory.mktemp("browser")) as opener:
        yield opener


READY = "document.documentElement?.dataset.ready"
DRAWN = "[...document.querySelectorAll('.figure')].filter(each => each.offsetParent && each.querySelector('.main-svg'))"
VISIBLE = "[...document.querySelectorAll('.figure')].filter(each => each.offsetParent)"


def opened(tab: Callable[[], Page], path: Path, **how: Any) -> Page:
    page = tab()
    page.open(path.as_uri(), **how)
    page.wait_for(READY)
    return page


@in_browser
@pytest.mark.parametrize(("width", "dark"), [(390, False), (820, True), (1440, False)])
@pytest.mark.parametrize("name", ["pages/lenient-strict.html", "compare/page.html"])
def test_it_opens_from_a_file_at_every_width_by_day_and_by_night(
    built: Path, tab: Callable[[], Page], name: str, width: int, dark: bool
) -> None:
    path = built / "reports" / name
    page = opened(tab, path, width=width, dark=dark)
    assert page.requests == [path.as_uri()]
    for night in (dark, not dark):  # evening comes, or morning, while it is read
        page.prefer(dark=night)
        assert page.value("document.documentElement.scrollWidth") <= width, "nothing sticks out"
        assert page.value(f"{DRAWN}.length") == page.value(f"{VISIBLE}.length") >= 3
        ink, paper = (page.value(f"getComputedStyle(document.body).{what}") for what in ("color", "backgroundColor"))
        assert (brightness(ink) > brightness(paper)) == night
        words = page.value("getComputedStyle(document.querySelector('.xtitle')).fill")
        assert (brightness(words) > brightness(paper)) == night, "a figure's words are legible on its ground"
    assert page.errors == [] and page.requests == [path.as_uri()]


@in_browser
def test_where_the_time_went_is_said_of_every_stage(built: Path, tab: Callable[[], Page]) -> None:
    page = opened(tab, built / "reports/pages/lenient-strict.html")
    title = "Array.from(document.querySelectorAll('h3')).find(each => each.textContent == 'Where the time went')"
    cells = f"{title}.nextElementSibling.nextElementSibling.querySelectorAll('tbody th')"
    stages = page.value(f"Array.from({cells}).map(cell => cell.textContent)")
    assert stages == ["base", "warmup", "lenient", "lenient-strict"]


def brightness(colour: str) -> float:
    return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3])


@in_browser
@pytest.mark.parametrize("width", [390, 1440])
def test_it_holds_ten_arms(courses: list[Course], tab: Callable[[], Page], tmp_path: Path, width: int) -> None:
    names = [f"arm-{place}" for place in range(10)]
    arms = [courses[place % 2].model_copy(update={"name": name}) for place, name in enumerate(names)]
    write_page(arms, names, "make compare", tmp_path / "page.html")
    page = opened(tab, tmp_path / "page.html", width=width)
    assert page.errors == [] and len(page.requests) == 1
    assert page.value("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    rows = page.value("[...document.querySelectorAll('#arms tbody th')].map(each => each.textContent)")
    assert sorted(rows) == names
    colours = page.value("[...document.querySelectorAll('#arms .swatch')].map(each => each.style.background)")
    assert len(set(colours)) == len(names), "no two arms look alike"
    for name in names:
        choose(page, "curriculum", name)
        page.wait_for(f"{DRAWN}.length === {VISIBLE}.length")
        first = "[...document.querySelectorAll('#lineage li')].find(each => each.offsetParent).textContent"
        assert arms[0].data[:12] in page.value(first), "the data stands at the head of each lineage"
    assert page.errors == []


@in_browser
def test_groups_are_gone_through_and_chosen(built: Path, tab: Callable[[], Page]) -> None:
    page = opened(tab, built / "reports/pages/lenient-strict.html")
    kept = unpacked((built / "reports/pages/lenient-strict.html").read_text(encoding="utf-8"))["groups"]
    groups = kept["lenient-strict"]["groups"]
    shown = "document.getElementById('group').textContent"
    assert f"1 of {len(groups)}" in page.value(shown)
    page.value("document.querySelector('[data-go=\"1\"]').click()")
    assert f"2 of {len(groups)}" in page.value(shown)
    rows = page.value("document.querySelectorAll('#group .completion').length")
    assert rows == len(groups[1]["completions"])
    dead = [group for group in groups if group["trained"] == "dead"]
    choose(page, "fate", "dead")
    assert (f"1 of {len(dead)}" if dead else "No such group") in page.value(shown)
    choose(page, "fate", "")
    offered = page.value(
        "[...document.querySelector('[data-chooses=question]').options].slice(1).map(one => one.value)"
    )
    asked = [group["question"] for group in groups]
    assert set(offered) == {identity for identity in asked if asked.count(identity) > 1}
    for identity in offered[:1]:
        choose(page, "question", identity)
        assert f"1 of {asked.count(identity)}" in page.value(shown)
    assert page.errors == []


@in_browser
def test_each_arm_and_each_axis_is_shown_when_it_is_chosen(built: Path, tab: Callable[[], Page]) -> None:
    page = opened(tab, built / "reports/compare/page.html")
    other = page.value("document.querySelector('[data-chooses=curriculum]').options[1].value")
    choose(page, "curriculum", other)
    choose(page, "axis", "tokens")
    page.wait_for(f"{DRAWN}.length === {VISIBLE}.length")
    assert page.value(f"{VISIBLE}.every(each => !each.dataset.of || each.dataset.of === {json.dumps(other)})")
    assert "million" in page.value("document.querySelector('[data-axis=tokens] .x3title').textContent")
    assert page.errors == []


@in_browser
def test_what_a_policy_says_is_text_and_nothing_else(
    courses: list[Course], tab: Callable[[], Page], tmp_path: Path
) -> None:
    group = courses[0].groups[0]
    said = [{**completion, "text": HOSTILE, "items": []} for completion in group["completions"]]
    hostile = {**group, "prompt": HOSTILE, "right": [HOSTILE], "completions": said}
    example = courses[0].example
    assert example is not None
    course = courses[0].model_copy(
        update={
            "groups": [hostile],
            "events": [HOSTILE],
            "example": example.model_copy(update={"after": [HOSTILE] * 3}),
        }
    )
    path = tmp_path / "page.html"
    write_page([course], ARMS, HOSTILE, path)
    page = opened(tab, path)
    assert page.value("document.title") != "1" and not page.value("document.querySelector('main img, main b b')")
    assert page.value("document.getElementById('group').textContent").count(HOSTILE) == 2 + len(said)
    assert page.errors == []


def choose(page: Page, what: str, value: str) -> None:
    chooser = f"document.querySelector('[data-chooses={what}]')"
    page.value(f"{chooser}.value = {json.dumps(value)}; {chooser}.dispatchEvent(new Event('change'))")

"""One self-contained file: the page's text, style, program, figures and data. It asks nothing of any network."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from upaya.colours import colour
from upaya.files import read_text, write_text
from upaya.page.course import Course, Shown
from upaya.page.figures import of_one, of_several
from upaya.records.throughput import PARTS

HERE = Path(__file__).parent


def write_page(courses: Sequence[Course], known: Sequence[str], rebuild: str, path: Path) -> None:
    """The page over one curriculum or several, side by side.

    Args:
        known: arms in their declared order: what gives each its colour.
        rebuild: the command that makes the page anew.
    """
    ordered = sorted(courses, key=lambda course: -float(course.after["strict_accuracy"]))
    data = {
        "figures": {course.name: of_one(course, known) for course in ordered},
        "together": of_several(ordered, known) if len(ordered) > 1 else {},
        "groups": {course.name: _by_reference(course.groups) for course in ordered},
    }
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["share"] = lambda value: f"{value:.1%}".replace("%", " %")
    html = environment.get_template("page.html").render(
        courses=ordered,
        colours={course.name: colour(course.name, known) for course in ordered},
        cheaply={group: found for course in reversed(ordered) for group, found in course.cheaply.items()},
        stages=_stages(ordered),
        regimes=_regimes(ordered),
        parts=PARTS,
        rebuild=rebuild,
        style=read_text(HERE / "page.css"),
        program=read_text(HERE / "page.js"),
        plotly=_packed(get_plotlyjs()),
        data=_packed(json.dumps(data, ensure_ascii=False, separators=(",", ":"))),
    )
    write_text(path, html)


def _packed(text: str) -> str:
    """Deflated and in base64, as the page's program unpacks it: a third of the size, and none of it ends a script."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _by_reference(groups: Sequence[Shown]) -> dict[str, Any]:
    """Groups with each question's text once."""
    questions = {group["question"]: {"prompt": group["prompt"], "right": group["right"]} for group in groups}
    own = [{key: value for key, value in group.items() if key not in ("prompt", "right")} for group in groups]
    return {"questions": questions, "groups": own}


def _stages(courses: Sequence[Course]) -> dict[str, Any]:
    """The stages of GRPO: a row for each, and the keys that are not the same in all."""
    told = [(course.name, stage) for course in courses for stage in course.stages if stage.declared]
    return {
        "keys": _differing([stage.declared for _, stage in told]),
        "rows": [{"curriculum": name, "stage": stage.name, "declared": stage.declared} for name, stage in told],
    }


def _regimes(courses: Sequence[Course]) -> dict[str, Any]:
    """The regimes and schedules that were trained on, by name, and the keys that are not the same in all."""
    rewards = {stage.regime: stage.reward for course in courses for stage in course.stages if stage.regime}
    return {"keys": _differing(list(rewards.values())), "rewards": rewards}


def _differing(declared: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that are not the same in all, in the order in which they appear."""
    keys = dict.fromkeys(key for each in declared for key in each)
    return [key for key in keys if len({str(each.get(key)) for each in declared}) > 1]

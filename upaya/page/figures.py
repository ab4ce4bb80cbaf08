"""The page's figures, as Plotly draws them. The page gives text, axes and grid their colours, light or dark."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from upaya.colours import FATES, colour
from upaya.measuring.curves import smoothed
from upaya.page.course import Course

WINDOW = 10  # points over which a course is smoothed
IN_WORDS = {"live": "live", "dead_all_wrong": "dead, all wrong", "dead_all_right": "dead, all right"}
STEPS = "steps since the warm-up"
TOKENS = "generated tokens since the warm-up, millions"
REGIMES = ("#88CCEE", "#332288", "#44AA99", "#999933", "#AA4499", "#117733")  # Tol's muted; in order of appearance
MARGINS = {"l": 60, "r": 12, "b": 52}  # pixels
BARE, LEGEND = 28, 76  # above: room for a mark; for a legend of two lines too


def of_one(course: Course, known: Sequence[str]) -> dict[str, Any]:
    """The figures of one curriculum, by what they show. Args: known: arms in their declared order, for the colours."""
    return {
        "success": _success(course, colour(course.name, known)),
        "groups": _groups(course),
        "skills": _skills(course),
    }


def of_several(courses: Sequence[Course], known: Sequence[str]) -> dict[str, Any]:
    """The figures that put curricula side by side."""
    colours = {course.name: colour(course.name, known) for course in courses}
    return {
        "accuracy": _accuracy(courses, colours),
        "steps": _together(courses, colours, STEPS, lambda course: course.columns["step"]),
        "tokens": _together(courses, colours, TOKENS, _millions),
    }


def _success(course: Course, line: str) -> dict[str, Any]:
    """Strict success over the steps above the regimes that the reward was made of; a line where they switched."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.82, 0.18], vertical_spacing=0.04)
    steps, success = course.columns["step"], course.columns["success"]
    figure.add_scatter(
        x=steps, y=success, name="each step", mode="markers", marker={"color": line, "size": 4, "opacity": 0.4}, row=1,
        col=1,
    )  # fmt: skip
    figure.add_scatter(
        x=steps, y=_smooth(success), name=f"mean of {WINDOW}", mode="lines", line={"color": line, "width": 2.5}, row=1,
        col=1,
    )  # fmt: skip
    if any(value is not None for value in course.columns["validation"]):
        figure.add_scatter(
            x=steps, y=course.columns["validation"], name="validation questions", mode="markers",
            marker={"color": "#888888", "size": 8, "symbol": "diamond-open"}, row=1, col=1,
        )  # fmt: skip
    for place, (name, weights) in enumerate(_regimes(course)):
        figure.add_scatter(
            x=steps, y=weights, name=f"regime {name}", mode="lines", stackgroup="regime", line={"width": 0},
            fillcolor=REGIMES[place % len(REGIMES)], hovertemplate="%{y:.2f}", row=2, col=1,
        )  # fmt: skip
    _mark_switches(figure, course)
    figure.update_yaxes(title="strict success", range=[0, 1.03], tickformat=".0%", row=1, col=1)
    figure.update_yaxes(title="regime", range=[0, 1], showticklabels=False, showgrid=False, row=2, col=1)
    figure.update_xaxes(title=STEPS, row=2, col=1)
    return _finished(figure, 430)


def _groups(course: Course) -> dict[str, Any]:
    """What the groups of each step could teach, under the reward trained on and under strict."""
    titles = ("under the reward trained on", "under strict")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12, subplot_titles=titles)
    for row, under in enumerate(("trained", "strict"), start=1):
        for fate, shade in FATES.items():
            figure.add_scatter(
                x=course.columns["step"], y=_smooth(course.columns[f"{under}/{fate}"]), name=IN_WORDS[fate],
                legendgroup=fate, showlegend=row == 1, stackgroup=under, mode="lines", line={"width": 0},
                fillcolor=shade, hovertemplate="%{y:.0%}", row=row, col=1,
            )  # fmt: skip
        figure.update_yaxes(title="share of groups", range=[0, 1], tickformat=".0%", row=row, col=1)
    _mark_switches(figure, course, named=False)
    figure.update_xaxes(title=STEPS, row=2, col=1)
    return _finished(figure, 470)


def _skills(course: Course) -> dict[str, Any]:
    """How often each skill's part of the answer was right: a frozen one stays dark from end to end."""
    names = list(course.skills)[::-1]  # Plotly draws the first at the bottom
    figure = go.Figure(
        go.Heatmap(
            x=course.columns["step"],
            y=names,
            z=[course.skills[name] for name in names],
            zmin=0,
            zmax=1,
            colorscale="Cividis",
            hovertemplate="%{y}, step %{x}: %{z:.0%}<extra></extra>",
            colorbar={"tickformat": ".0%", "thickness": 10, "title": {"text": "right"}},
        )
    )
    _mark_switches(figure, course)
    figure.update_xaxes(title=STEPS)
    figure.update_yaxes(tickfont={"size": 11}, automargin=True, dtick=1)
    return _finished(figure, 80 + 19 * max(len(names), 6), BARE)


def _accuracy(courses: Sequence[Course], colours: Mapping[str, str]) -> dict[str, Any]:
    """Strict accuracy of each at the end, with its interval over the questions; the best on top."""
    ordered = sorted(courses, key=lambda course: float(course.after["strict_accuracy"]))
    values = [course.after["strict_accuracy"] for course in ordered]
    bounds = [course.after["strict_accuracy_interval"] for course in ordered]
    above = [high - value for value, (_, high) in zip(values, bounds, strict=True)]
    below = [value - low for value, (low, _) in zip(values, bounds, strict=True)]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=[course.name for course in ordered],
            orientation="h",
            marker={"color": [colours[course.name] for course in ordered]},
            error_x={"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": "#888888"},
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    figure.update_xaxes(title="strict accuracy, 95 % interval", range=[0, 1.03], tickformat=".0%")
    figure.update_yaxes(automargin=True)
    figure.update_layout(showlegend=False)
    return _finished(figure, 90 + 30 * len(ordered), BARE)


def _together(
    courses: Sequence[Course], colours: Mapping[str, str], title: str, axis: Callable[[Course], Sequence[float | None]]
) -> dict[str, Any]:
    """What decides, for all of them. A dot marks each switch of regime."""
    shown = {
        "success": "strict success",
        "strict/live": "live groups under strict",
        "rewarded_wrong": "rewarded although wrong",
    }
    titles = list(shown.values())
    figure = make_subplots(rows=len(shown), cols=1, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=titles)
    for row, key in enumerate(shown, start=1):
        for course in courses:
            switches = _places(course)
            sizes = [9 if place in switches else 0 for place in range(len(axis(course)))]
            figure.add_scatter(
                x=axis(course), y=_smooth(course.columns[key]), name=course.name, mode="lines+markers",
                line={"color": colours[course.name], "width": 2}, marker={"size": sizes, "line": {"width": 0}},
                hovertemplate="%{y:.0%}", row=row, col=1,
            )  # fmt: skip
        figure.update_yaxes(range=[0, 1.03], tickformat=".0%", row=row, col=1)
    figure.update_xaxes(title=title, row=len(shown), col=1)
    figure.update_layout(showlegend=False)
    return _finished(figure, 760, BARE)


def _millions(course: Course) -> list[float | None]:
    return [None if tokens is None else tokens / 1e6 for tokens in course.columns["generated_tokens"]]


def _regimes(course: Course) -> list[tuple[str, list[float | None]]]:
    return [
        (name.removeprefix("regime/"), values)
        for name, values in course.columns.items()
        if name.startswith("regime/") and any(values)
    ]


def _places(course: Course) -> set[int]:
    """The points after which regimes switched."""
    steps = course.columns["step"]
    return {
        max((place for place, step in enumerate(steps) if step is not None and step <= switch["step"]), default=0)
        for switch in course.switches
    }


def _mark_switches(figure: go.Figure, course: Course, named: bool = True) -> None:
    for switch in course.switches:
        figure.add_vline(x=switch["step"], line={"dash": "dash", "width": 1.5, "color": "#888888"})
    for switch in course.switches if named and len(course.switches) <= 3 else []:  # more are a schedule: see the band
        figure.add_annotation(
            x=switch["step"], y=1, yref="paper", yanchor="bottom", showarrow=False, font={"size": 11},
            text=f"{switch['to']} from {switch['step'] + 1}",
        )  # fmt: skip


def _smooth(values: Sequence[float | None]) -> list[float | None]:
    """Means of the last points; None where the first of them is."""
    present = [value for value in values if value is not None]
    means = iter(smoothed(present, WINDOW))
    return [None if value is None else round(next(means), 4) for value in values]


def _finished(figure: go.Figure, height: int, above: int = LEGEND) -> dict[str, Any]:
    figure.update_layout(
        template="none", height=height, margin=MARGINS | {"t": above}, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", hovermode="x unified",
        legend={"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top", "traceorder": "normal"},
    )  # fmt: skip
    figure.for_each_annotation(lambda each: each.update(x=0, xanchor="left"), selector={"xref": "paper"})
    found: dict[str, Any] = json.loads(figure.to_json())
    return found

"""How the UI shows runs: a saved view that compares the curricula.

MLflow has no API for views: this writes what the front-end of MLflow 3.17 writes when a view is saved in it, so with
another MLflow the form is to be looked up again (in mlflow/server/js/src/experiment-tracking: savedViewEnvelope.ts,
ExperimentPageUIState.tsx, runs-charts.types.ts).
"""

import base64
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient  # takes seconds to import

NAME = "Curricula compared"
VIEW = "curricula"  # its id: one tag of the experiment, whatever is installed over it
TAG = f"mlflow.sharedViewState.{VIEW}"

ACCURACY = "eval/strict_accuracy"
SMOOTHED = 50  # of 100: a batch's success jumps, its course is what is compared
COLUMNS = {  # of the table, after the run's name, and how wide
    f"metrics.`{ACCURACY}`": 170,
    "params.`arm`": 150,
    "params.`seed`": 60,
    "metrics.`switch_step`": 100,
    "metrics.`generated_tokens`": 140,
    "tags.`dvc.stage_hash`": 170,
}


def install(client: "MlflowClient", experiment_id: str) -> str:
    """Install (or replace) the view; returns the fragment of its address, `#/experiments/…`."""
    client.set_experiment_tag(experiment_id, TAG, encoded(state()))
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&compareRunsMode=CHART"


def state() -> dict[str, Any]:
    """What the view shows, as the front-end keeps it; what is left out is as in a new view."""
    # A section for each, as the runs' page titles a card by its metric, whatever name the card itself has.
    sections: dict[str, list[dict[str, Any]]] = {
        "strict success": [_line("success", lineSmoothness=SMOOTHED)],
        "strict success over generated tokens": [
            _line("success", lineSmoothness=SMOOTHED, xAxisKey="metric", selectedXAxisMetricKey="generated_tokens")
        ],
        "strict success on validation questions": [_line("validation/success")],
        "live groups under strict": [_line("regimes/strict/live")],
        "rewarded although wrong": [_line("trained/rewarded_wrong")],
        "regime (0 lenient … strict)": [_line("curriculum/regime")],
        "final accuracy and its interval": [_bar(ACCURACY), _bar(f"{ACCURACY}/low"), _bar(f"{ACCURACY}/high")],
    }
    charts = [chart | {"metricSectionId": title} for title, cards in sections.items() for chart in cards]
    metrics = dict.fromkeys(re.escape(chart["metricKey"]) for chart in charts)
    return {
        "searchFilter": "tags.kind = 'curriculum'",
        "orderByKey": f"metrics.`{ACCURACY}`",
        "orderByAsc": False,
        "runsHiddenMode": "SHOW_ALL",  # else only the first ten, and a run that still trains comes last
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "columnWidths": COLUMNS,
        "compareRunCharts": [chart | {"uuid": f"{VIEW}-{place}"} for place, chart in enumerate(charts)],
        "compareRunSections": [
            {"uuid": title, "name": title, "display": True, "columns": len(cards)} for title, cards in sections.items()
        ],
        "isAccordionReordered": True,  # else sections are sorted by name
        # The UI adds a chart of every other metric: only the search above the charts, a pattern, hides those.
        "chartsSearchFilter": f"^({'|'.join(metrics)})$",
    }


def encoded(state: dict[str, Any]) -> str:
    """A state as the tag's value."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    # The time only sorts the list of views; a constant, so that nothing changes where nothing has.
    return json.dumps({"name": NAME, "createdAt": 0, "state": f"deflate;{packed}"})


def _line(metric: str, **settings: Any) -> dict[str, Any]:
    """A line chart over steps. Args: settings: fields of the card that differ."""
    return {
        "type": "LINE",
        "metricKey": metric,
        "xAxisKey": "step",
        "useGlobalXaxisKey": False,  # the page has an axis and a smoothing for all charts, the card its own
        "useGlobalLineSmoothing": False,
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "yAxisKey": "metric",
        **settings,
    }


def _bar(metric: str) -> dict[str, Any]:
    return {"type": "BAR", "metricKey": metric}

"""The saved view of the curricula is what MLflow's front-end reads, and each arm has a colour of its own."""

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from browser import browser, found
from mlflow_server import Server

from upaya.colours import ARMS, colour
from upaya.tracking.view import COLUMNS, TAG, encoded, install, state


def decoded(tag: str) -> Any:
    """What the front-end makes of the tag."""
    envelope = json.loads(tag)
    assert isinstance(envelope["name"], str) and isinstance(envelope["createdAt"], int)
    prefix, _, packed = envelope["state"].partition(";")
    assert prefix == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_the_state_comes_back_from_the_tag() -> None:
    assert decoded(encoded(state())) == state()


def test_the_tag_is_as_short_as_mlflow_demands_and_the_same_every_time() -> None:
    assert len(encoded(state())) < 20_000
    assert encoded(state()) == encoded(state())


def test_every_chart_has_an_id_of_its_own_a_section_and_is_not_filtered_out() -> None:
    view = state()
    charts = view["compareRunCharts"]
    assert len({chart["uuid"] for chart in charts}) == len(charts)
    # A section that has no chart, or a chart that is in no section, would not be shown.
    assert {chart["metricSectionId"] for chart in charts} == {section["uuid"] for section in view["compareRunSections"]}
    shown = re.compile(view["chartsSearchFilter"])
    assert all(shown.search(chart["metricKey"]) for chart in charts)
    assert not any(shown.search(metric) for metric in ("loss", "skills/success", "trained/reward", "success_rate"))


def test_installed_twice_it_is_one_tag(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.create_experiment("upaya", artifact_location=str(tmp_path))
    address = install(client, experiment)
    tags = dict(client.get_experiment(experiment).tags)
    assert install(client, experiment) == address
    assert address == f"#/experiments/{experiment}/runs?viewStateShareKey=curricula&compareRunsMode=CHART"
    assert client.get_experiment(experiment).tags == tags
    assert [key for key in tags if key.startswith("mlflow.sharedViewState.")] == [TAG]
    assert decoded(tags[TAG]) == state()


@pytest.mark.parametrize("count", [1, 4, 10])
def test_up_to_ten_arms_have_colours_of_their_own(count: int) -> None:
    arms = [f"arm-{number}" for number in range(count)]
    assert len({colour(arm, arms) for arm in arms}) == count
    assert all(re.fullmatch(r"#[0-9A-F]{6}", each) for each in ARMS)


def test_an_arm_keeps_its_colour() -> None:
    arms = [f"arm-{number}" for number in range(12)]
    assert colour("arm-11", arms) == colour("arm-1", arms)  # after the last it begins again
    assert colour("arm-1", arms[:2]) == colour("arm-1", arms)
    assert colour("elsewhere", []) == colour("elsewhere", arms) == "#CCBB44"


HEADERS = "[...document.querySelectorAll('[data-testid=experiment-view-compare-runs-section-header]')]"
PLOTS = "document.querySelectorAll('.js-plotly-plot .plot-container').length"


@pytest.mark.skipif(found() is None, reason="no Chromium or Chrome is installed")
def test_the_link_opens_the_charts_and_the_columns_in_a_real_browser(project: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    store = f"sqlite:///{project / 'mlruns/mlflow.db'}"
    client = MlflowClient(store)
    address = install(client, client.get_experiment_by_name("upaya").experiment_id)
    server = Server(tmp_path, store)
    server.start()
    try:
        with browser(tmp_path / "profile") as tab:
            page = tab()
            page.open(f"{server.uri}/{address}", width=1500, height=3100)
            page.wait_for(f"{PLOTS} >= {len(state()['compareRunCharts'])}")
            shown = page.value(f"{HEADERS}.map(each => each.textContent)")
            wanted = [section["name"] for section in state()["compareRunSections"]]
            assert [max((name for name in wanted if title.startswith(name)), key=len) for title in shown] == wanted
            table = tab()
            table.open(f"{server.uri}/{address.replace('compareRunsMode=CHART', 'compareRunsMode=')}", width=1900)
            headers = "[...document.querySelectorAll('[role=columnheader]')].map(each => each.textContent.trim())"
            names = [column.split("`")[1] for column in COLUMNS]
            table.wait_for(f"{json.dumps(names)}.every(name => {headers}.some(header => header.includes(name)))")
    finally:
        server.kill()

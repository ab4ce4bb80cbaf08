"""probe: reports/probe/<policy>.json, what a policy could learn from, and which curriculum that recommends."""

from upaya.measuring.probe import probe_declared
from upaya.measuring.probe_report import report_path, show
from upaya.tracking.tracker import Tracker


def main(name: str) -> None:
    with Tracker(f"probe {name}", {}, {"stage": f"probe@{name}", "policy": name}) as tracker:
        report = probe_declared(name)
        show(report)
        report.write(report_path(name))
        tracker.metrics(report.model_dump(mode="json"))
        tracker.tag({"recommendation": report.recommendation.text})

"""probe: reports/probe/<policy>.json, what a policy could learn from, and which curriculum that recommends."""

from upaya.measuring.probe import probe_declared
from upaya.measuring.probe_report import show
from upaya.records.probes import report_path
from upaya.tracking.told import probed
from upaya.tracking.tracker import tell


def main(name: str) -> None:
    report = probe_declared(name)
    show(report)
    report.write(report_path(name))
    tell(probed(name))

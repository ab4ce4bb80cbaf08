"""probe: reports/probe/<policy>.json, what a policy could learn from, and which curriculum that recommends.

python -m tasks.probe warmup
"""

import sys

from upaya.errors import UserError, shown_to_user
from upaya.probe import probe_declared, report_path, show
from upaya.tracking import Tracker


def main(name: str) -> None:
    with Tracker(f"probe {name}", {}, {"stage": f"probe@{name}", "policy": name}) as tracker:
        report = probe_declared(name)
        show(report)
        report.write(report_path(name))
        tracker.metrics(report.model_dump(mode="json"))
        tracker.tag({"recommendation": report.recommendation.text})


if __name__ == "__main__":
    with shown_to_user():
        if len(sys.argv) != 2:
            raise UserError("usage: python -m tasks.probe POLICY")
        main(sys.argv[1])

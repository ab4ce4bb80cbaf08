"""compare: reports/compare, all arms of params/curricula.yaml's `compare` side by side."""

from upaya.declared.validation import Declared, Name, load_keys
from upaya.errors import UserError
from upaya.measuring.comparison import compare, read_arm, show_arms, write
from upaya.measuring.probe_report import Report, report_path
from upaya.paths import COMPARISON, CURRICULA
from upaya.tracking.tracker import Tracker


class Params(Declared):
    """Of params/curricula.yaml."""

    compare: list[Name]
    probe: Name


def main() -> None:
    params = load_keys(CURRICULA, Params, probe="auto.probe")
    if not params.compare:
        raise UserError(f"{CURRICULA}: key 'compare' names no policy to put side by side")
    with Tracker("compare", {"arms": params.compare}, {"stage": "compare"}) as tracker:
        arms = [read_arm(name) for name in params.compare]
        rows = compare(arms)
        write(rows, arms, Report.read(report_path(params.probe)))
        tracker.metrics({row["arm"]: {"strict_accuracy": row["strict_accuracy"]} for row in rows})
        tracker.figure(COMPARISON / "arms.png")
    show_arms()

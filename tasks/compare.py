"""compare: reports/compare, all arms of params/curricula.yaml's `compare` side by side.

python -m tasks.compare
"""

from upaya.comparison import REPORTS, compare, probe_check, show_arms, write
from upaya.errors import UserError, shown_to_user
from upaya.params import CURRICULA, Curricula, load_curricula
from upaya.probe import Report, report_path
from upaya.rewards.schedules import load_regimes
from upaya.tracking import Tracker


def main() -> None:
    curricula = load_curricula(load_regimes())
    if not curricula.compare:
        raise UserError(f"{CURRICULA}: key 'compare' names no policy to put side by side")
    with Tracker("compare", {"arms": curricula.compare}, {"stage": "compare"}) as tracker:
        rows = compare(curricula.compare)
        report = Report.read(report_path(curricula.auto.probe))
        alike = [name for name in curricula.compare if _starts_as_probed(curricula, name)]
        write(rows, probe_check(report, alike))
        tracker.metrics({row["arm"]: {"strict_accuracy": row["strict_accuracy"]} for row in rows})
        tracker.figure(REPORTS / "arms.png")
    show_arms()


def _starts_as_probed(curricula: Curricula, arm: str) -> bool:
    """Whether an arm's first stage trains the probed policy on the questions of the probe."""
    first = next(name for name in curricula.ancestry(arm) if name in curricula.policies)
    return curricula.parent(first) == curricula.auto.probe and curricula.asked(first) == curricula.questions


if __name__ == "__main__":
    with shown_to_user():
        main()

"""`upaya plan POLICY`: which stages would run and why, how long they took last time, what the probe predicts."""

import os
from collections.abc import Iterable

from upaya.declared.curricula import Curricula
from upaya.operating.pipeline import stages
from upaya.records.probes import probe_of, report_path
from upaya.records.times import stage_seconds
from upaya.terminal import console

SHOWN = 5  # reasons of a stage


def show(targets: Iterable[str], curricula: Curricula) -> None:
    """Print it. Args: targets: stages as DVC names them. Raises UserError where DVC cannot read the pipeline."""
    seconds = stage_seconds()
    every = stages(targets)
    due = [each for each in every if not each.is_current]
    if not due:
        console.print(f"all {len(every)} stages are current: nothing would run")
    for each in due:
        took = f"  (took {seconds[each.address]:.0f} s)" if each.address in seconds else ""
        console.print(f"{each.address}{took}", markup=False)
        why = each.why or [f"only if what is below it comes out differently: {', '.join(each.after)}"]
        for reason in why[:SHOWN]:
            console.print(f"    {reason}", markup=False)
        if len(why) > SHOWN:
            console.print(f"    … {len(why) - SHOWN} more")
    known = [seconds[each.address] for each in due if each.address in seconds]
    if due:
        rest = f", and {len(due) - len(known)} not timed yet" if len(known) < len(due) else ""
        console.print(f"{len(due)} of {len(every)} stages, {sum(known):.0f} s as they took last time{rest}")
    if os.path.lexists(report_path(curricula.auto.probe)):
        console.print(
            f"probe of {curricula.auto.probe}: {probe_of(curricula.auto.probe).recommendation.text}", markup=False
        )

"""`upaya status`: what is at work in this checkout, what is half done, what is current."""

from collections import Counter
from pathlib import Path

from upaya.locks import holder
from upaya.operating.pipeline import NOT_BUILT, stages
from upaya.paths import EXPERIMENTS, FLOW_LOCK, WORK, progress_file, work_lock
from upaya.terminal import console, reached


def show() -> None:
    """Print it. Raises UserError where DVC cannot read the pipeline."""
    flow = holder(FLOW_LOCK)
    console.print(f"a flow is at work: {flow}" if flow else "no flow is at work")
    for work in (WORK, *sorted(EXPERIMENTS.glob("*"))):
        of = "" if work == WORK else f"experiment {work.name}: "
        for name in trained(work):
            now, by = reached(progress_file(name, work)), holder(work_lock(name, work))
            where = f"{now.unit} {now.done} of {now.total}  {now.note}" if now else "starting"
            if by:
                console.print(f"{of}{name}: {where}  ({by})", markup=False)
            elif now:
                console.print(f"{of}{name}: half done, {where}; whatever started it goes on from its last checkpoint")
    every = stages()
    counts = Counter(
        "current" if each.is_current else "not built" if each.why == [NOT_BUILT] else "changed" for each in every
    )
    console.print(", ".join(f"{number} stages {what}" for what, number in counts.items()))
    for each in every:
        if not each.is_current and each.why != [NOT_BUILT]:
            said = each.why or [f"after {', '.join(each.after)}"]
            more = f" (and {len(said) - 1} more: `upaya plan`)" if len(said) > 1 else ""
            console.print(f"  {each.address}: {said[0]}{more}", markup=False)


def trained(work: Path = WORK) -> list[str]:
    """The policies that have a work folder, a lock or a progress file."""
    files = sorted(work.glob("*")) if work.is_dir() else []
    return sorted({file.stem if file.suffix in (".lock", ".progress") else file.name for file in files})

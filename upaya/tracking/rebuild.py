"""MLflow brought to hold all that is built, from what the stages wrote: an empty store is filled, a full one stays."""

import os
from collections.abc import Callable, Sequence

from upaya.paths import COMPARISON, ORIGIN, POLICIES, PROBE
from upaya.records.policies import line_of
from upaya.tracking.store import Store
from upaya.tracking.told import Told, built, compared, locked, probed


def all_built() -> list[Told]:
    """Policies, ancestors first, then reports. Raises UserError or OSError where a file is damaged."""
    folders = [folder for folder in sorted(POLICIES.glob("*")) if os.path.lexists(folder / ORIGIN)]
    policies = sorted((folder.name for folder in folders), key=lambda name: len(line_of(name)))
    if not policies:
        return []
    outs = locked()
    return [*(built(name, outs=outs) for name in policies), *_reports()]


def rebuild(told: Sequence[Told], say: Callable[[str], None]) -> None:
    """Args: say: told of each when it is done. Raises what MLflow raises where the store does not answer."""
    store = Store()
    for run in told:
        store.bring(run)
        say(run.name)


def _reports() -> list[Told]:
    found = [probed(path.stem) for path in sorted(PROBE.glob("*.json"))]
    return [*found, compared()] if os.path.lexists(COMPARISON / "arms.json") else found

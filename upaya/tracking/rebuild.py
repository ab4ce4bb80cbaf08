"""MLflow brought to hold all that is built, from what the stages wrote: an empty store is filled, a full one stays."""

from collections.abc import Callable

from upaya.paths import COMPARISON, POLICIES, PROBE
from upaya.records.policies import line_of
from upaya.tracking.store import Store
from upaya.tracking.told import Told, built, compared, probed


def rebuild(say: Callable[[str], None]) -> list[str]:
    """Policies, ancestors first, then reports; returns their names. Args: say: told of each when it is done.

    Raises UserError where a file is damaged, and what MLflow raises where the store does not answer.
    """
    policies = sorted(
        (path.parent.name for path in POLICIES.glob("*/policy.json")), key=lambda name: len(line_of(name))
    )
    if not policies:
        return []
    told = [*map(built, policies), *_reports()]  # what is wrong with a file is said before anything is sent
    store = Store()
    for run in told:
        store.bring(run)
        say(run.name)
    return [run.name for run in told]


def _reports() -> list[Told]:
    found = [probed(path.stem) for path in sorted(PROBE.glob("*.json"))]
    return [*found, compared()] if (COMPARISON / "arms.json").exists() else found

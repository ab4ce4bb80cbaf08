"""MLflow brought to hold all that is built, from what the stages wrote: an empty store is filled, a full one stays."""

from collections.abc import Callable

from upaya.paths import COMPARISON, POLICIES, PROBE
from upaya.records import line_of
from upaya.tracking.store import Store
from upaya.tracking.told import Told, built, compared, probed


def rebuild(say: Callable[[str], None]) -> list[str]:
    """Policies, ancestors first, then reports; returns their names. Args: say: told of each when it is done.

    Raises what MLflow raises where the store does not answer.
    """
    policies = sorted(
        (path.parent.name for path in POLICIES.glob("*/policy.json")), key=lambda name: len(line_of(name))
    )
    if not policies:
        return []
    store, done = Store(), []
    for told in [*map(built, policies), *_reports()]:
        store.bring(told)
        say(told.name)
        done.append(told.name)
    return done


def _reports() -> list[Told]:
    found = [probed(path.stem) for path in sorted(PROBE.glob("*.json"))]
    return [*found, compared()] if (COMPARISON / "arms.json").is_file() else found

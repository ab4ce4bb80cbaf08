"""compare: reports/compare, all arms of params/curricula.yaml's `compare` side by side."""

from upaya.declared.validation import Declared, Name, load_keys
from upaya.errors import UserError
from upaya.measuring.comparison import compare, read_arm, write
from upaya.paths import COMPARISON, CURRICULA
from upaya.records.probes import probe_of
from upaya.terminal import console
from upaya.tracking.told import compared
from upaya.tracking.tracker import tell


class Params(Declared):
    """Of params/curricula.yaml."""

    compare: list[Name]
    probe: Name


def main() -> None:
    params = load_keys(CURRICULA, Params, probe="auto.probe")
    if not params.compare:
        raise UserError(f"{CURRICULA}: key 'compare' names no policy to put side by side")
    arms = [read_arm(name) for name in params.compare]
    write(compare(arms), arms, probe_of(params.probe))
    tell(compared())
    console.print(f"compare: {COMPARISON / 'arms.json'}; `upaya compare` shows it")

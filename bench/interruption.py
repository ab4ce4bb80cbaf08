"""Kill a curriculum at random moments, at every level of its tree of processes: does it end as if nobody had?

python -m bench.interruption --kills 20        # the default curriculum, in a clone in a temporary folder

Each kill says who got which signal, how many seconds until nobody of the tree was left, and who was. At the end the
same bytes are wanted as from a run that nobody disturbed, which is made first.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import typer

from upaya.files import sha256_tree

LEVELS = {  # who is who in the tree, by what stands in the command line
    "stage": "-m tasks ",
    "DVC": "-m tasks.repro ",
    "server": "prefect.server.api.server:create_app",
    "flow": "-m flows.curriculum ",
}
EVERYBODY = "everybody"
SUPERVISOR = "supervisor"  # of the processes of a flow the one above
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
OUTPUTS = ("questions", "policies", "results")
LONGEST = 90.0  # seconds until a tree is gone


@dataclass(frozen=True)
class Kill:
    """Attributes: seconds: until nobody was left, or the flow was at work again. left: who was not gone."""

    level: str
    signal: str
    seconds: float
    left: list[str]


def tree(project: Path) -> dict[str, list[psutil.Process]]:
    """The living processes at work in a checkout, by level."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE or Path(process.cwd()) != project:
                continue
            words = " ".join(process.cmdline()) + " "
        except psutil.Error:
            continue
        level = next((level for level, part in LEVELS.items() if part in words), "other")
        found.setdefault(level, []).append(process)
    flows = {process.pid for process in found.get("flow", [])}
    for process in list(found.get("flow", [])):
        if process.ppid() not in flows:
            found["flow"].remove(process)
            found[SUPERVISOR] = [process]
    return {level: processes for level, processes in found.items() if processes}


def kill(project: Path, level: str, number: signal.Signals) -> Kill:
    """Send a signal to a level of a flow at work, and wait for what becomes of it."""
    before = tree(project)
    aimed = [each for part in before.values() for each in part] if level == EVERYBODY else before.get(level, [])
    begun = time.monotonic()
    for process in aimed:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    old = {process.pid for part in before.values() for process in part}
    while time.monotonic() - begun < LONGEST:
        now = tree(project)
        alive = {process.pid for part in now.values() for process in part}
        if not alive or (SUPERVISOR in now and "stage" in now and not {each.pid for each in now["stage"]} & old):
            return Kill(level, number.name, time.monotonic() - begun, [])
        time.sleep(0.1)
    return Kill(level, number.name, LONGEST, [f"{level} {each.pid}" for level, part in now.items() for each in part])


def disturbed(project: Path, command: list[str], env: dict[str, str], kills: int, seed: int, most: float) -> list[Kill]:
    """Run a flow to its end, started again whenever it is gone, with kills at random moments while it is at work.

    Args:
        most: seconds from one kill to the next, at most.
    """
    moments = random.Random(seed)
    done: list[Kill] = []
    flow: subprocess.Popen[bytes] | None = None
    while True:
        if flow is None or flow.poll() is not None:
            if flow is not None and flow.returncode == 0:
                return done
            flow = subprocess.Popen(
                command, cwd=project, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                preexec_fn=_hang_up_as_usual,
            )  # fmt: skip
        if len(done) == kills:
            flow.wait()
            continue
        until = time.monotonic() + moments.uniform(0, most)
        while flow.poll() is None and (time.monotonic() < until or "stage" not in tree(project)):
            time.sleep(0.05)
        if flow.poll() is None:
            done.append(kill(project, moments.choice([*LEVELS, SUPERVISOR, EVERYBODY]), moments.choice(SIGNALS)))


def _hang_up_as_usual() -> None:
    """Under nohup a hang-up is ignored by whoever does not ask for it, and Prefect's server would outlive one."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def made(project: Path) -> dict[str, str]:
    """The hash of every folder of outputs."""
    return {
        str(path.relative_to(project)): sha256_tree(path)
        for folder in OUTPUTS
        for path in sorted((project / folder).iterdir())
        if path.name != ".gitignore"
    }


def main(kills: int = 20, policy: str = "lenient-strict", seed: int | None = None) -> None:
    """Build POLICY undisturbed and disturbed, in clones of this checkout's last commit."""
    from tasks.dvc import stage_environment

    seed = random.randrange(10**6) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="upaya-") as folder:
        projects = [Path(folder).resolve() / name for name in ("whole", "killed")]
        for project in projects:
            subprocess.run(["git", "clone", "--quiet", ".", str(project)], check=True)
            (project / ".venv").symlink_to(Path(".venv").resolve())
        command = [sys.executable, "-m", "flows.curriculum", policy]
        env = stage_environment() | {"PREFECT_HOME": str(Path(folder) / "prefect"), "MLFLOW_TRACKING_URI": ""}
        subprocess.run(command, cwd=projects[0], env=env, check=True, stdout=subprocess.DEVNULL)
        for each in disturbed(projects[1], command, env, kills, seed, most=15.0):
            print(f"{each.signal:8} to {each.level:10} {each.seconds:5.1f} s  {', '.join(each.left) or 'nobody left'}")
        same = made(projects[0]) == made(projects[1])
        print(f"{'the same bytes' if same else 'OTHER BYTES'} (seed {seed})")
        raise SystemExit(not same)


if __name__ == "__main__":
    typer.run(main)

"""A pipeline in miniature, run once for all tests: the same stages by the same programs, with fewer steps."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

os.environ["COLUMNS"] = "150"  # pytest-xdist sets 80; a user's pipe has none, which is this (upaya/terminal.py)
os.environ["OMP_NUM_THREADS"] = "1"  # the workers share the cores, and threads that wait spin

import pytest
import yaml
from filelock import FileLock
from hypothesis import settings

from upaya.startup import start

start()
settings.register_profile("untimed", deadline=None)  # how long a case takes says more of the machine: bench/ measures
settings.load_profile("untimed")
ROOT = Path(__file__).parents[1]
CANON = ROOT.parent / "shared" / "canon"  # real text, which is its publishers'
NO_CANON = f"no texts as Kanripo has them (docs/texts.md) in {CANON}"
NAMED = "我的 論典"  # a checkout's folder with a space and Chinese characters in its name: all of it works there
LONGEST = (
    "test_pipeline",
    "test_operating",
    "test_two_hosts",
    "test_dependencies",
    "test_hostile_outputs",
    "test_launch",
)
LONG = 300.0  # seconds: of what hangs, not of what is slow
POLICIES = {  # a tree with the default curriculum's two policies and one of each further kind
    "lenient": {"from": "warmup", "regime": "lenient", "learning_rate": 1e-3, "max_steps": 6},
    "lenient-strict": {"from": "lenient", "regime": "strict", "learning_rate": 5e-4},
    "scheduled": {
        "from": "warmup",
        "regime": "annealed",
        "learning_rate": 1e-3,
        "questions": {"kinds": ["element_values"], "difficulty": [2]},
    },
}
PROBE = {"questions": 8, "samples": 8, "group_sizes": [4, 8], "enough_live": 0.25, "top": 50, "out_of_reach": 0.1}
QUIET = {
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "OMP_NUM_THREADS": "1",
}


def activated(**extra: str) -> dict[str, str]:
    """The environment variables of a user who has activated the project's environment. (Who is told to write no
    bytecode compiles all of it at each start: a second or two.)"""
    others = ("PREFECT", "MLFLOW_TRACK", "PYTHONDONTWRITEBYTECODE")
    mine = {key: value for key, value in os.environ.items() if not key.startswith(others)}
    return mine | QUIET | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"} | extra


def run(*command: str, cwd: Path, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
    """A command in a project, as a user types it with the environment activated."""
    found = subprocess.run(command, cwd=cwd, env=activated(**extra), capture_output=True, text=True, check=False)
    assert not check or found.returncode == 0, f"{command} failed:\n{found.stdout}\n{found.stderr}"
    return found


def edit(path: Path, *keys: str, value: object) -> None:
    """Set one key of a YAML file."""
    content = yaml.safe_load(path.read_text())
    node = content
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))


def copy_project(folder: Path) -> Path:
    """A clone of the working tree's tracked files, with its own git history, and small settings."""
    project = folder / NAMED
    project.mkdir()
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    (project / "dvc.lock").unlink(missing_ok=True)
    curricula, questions = project / "params/curricula.yaml", project / "params/questions.yaml"
    few = {"train": 300, "validation": 32, "test": 24}
    edit(questions, "sources", "elements", "element_values", value={2: few, 3: few})
    edit(questions, "sources", "elements", "statements", value=400)
    edit(questions, "sources", "vibhasa", "values", value={"causes_values": {2: few}})
    edit(questions, "sources", "vibhasa", "statements", value=100)
    edit(curricula, "numerics", "threads", value=1)  # the miniature is too small for more to pay
    edit(curricula, "questions", "difficulty", value=[3])
    edit(curricula, "sampling", "max_new_tokens", value=40)
    edit(curricula, "warmup", "questions", "difficulty", value=[2, 3])
    edit(curricula, "warmup", "max_steps", value=12)
    edit(curricula, "warmup", "until", "questions", value=16)
    edit(curricula, "grpo", "budget", value=10)
    edit(curricula, "grpo", "prompts", value=8)
    edit(curricula, "grpo", "checkpoint_every", value=2)
    edit(curricula, "grpo", "validation", value={"every": 2, "questions": 8})
    edit(curricula, "policies", value=POLICIES)
    edit(curricula, "compare", value=list(POLICIES)[1:])
    edit(curricula, "probe", value=PROBE)
    edit(curricula, "auto", value={"probe": "warmup", "start_strict": "lenient-strict", "start_lenient": "lenient"})
    edit(curricula, "evaluation", value={"samples": 8, "ks": [1, 8], "bootstrap": 200})
    edit(project / "params/models/tiny.yaml", "pretraining", "steps", value=10)
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    return project


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that train are marked, for `make check` leaves them out.

    Side by side, the tests of a file go to one worker, for their fixtures' sake. The first file builds the project,
    while the other workers train without it. Of those that need it, what takes longest begins first, and what trains
    nothing comes last: else all wait for one file in the end.
    """
    needing, training = set[Path](), set[Path]()
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))
        fixtures = set(getattr(item, "fixturenames", ()))
        if "built" in fixtures:
            needing.add(item.path)
        if {"built", "together"} & fixtures:
            item.add_marker(pytest.mark.training)
        if item.get_closest_marker("training"):
            training.add(item.path)

    last = len(LONGEST) + 2
    turns = {"test_interruption": 0} | {stem: turn for turn, stem in enumerate(LONGEST, start=2)}

    def turn(item: pytest.Item) -> int:
        if item.path in needing:
            return turns.get(item.path.stem, last)
        return 1 if item.path in training else last + 1

    items.sort(key=turn)


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its data in which no stage has run. Tests that change it work on a copy."""
    project = copy_project(tmp_path_factory.mktemp("copied"))
    run("dvc", "repro", "data.dvc", cwd=project)
    return project


def build(project: Path) -> None:
    """Run all stages as `dvc repro` does, each in a forked process: a quarter of the time (tests/forked.py).

    Whether DVC itself makes the same of them is test_second_pipeline's to say, which has it build a second project.
    """
    import networkx
    from dvc.repo import Repo
    from forked import stage  # it imports this module

    run("dvc", "repro", "data.dvc", cwd=project)
    for declared in networkx.dfs_postorder_nodes(Repo(str(project)).index.graph):  # what is depended on comes first
        if declared.cmd:
            _, _, *arguments = shlex.split(declared.cmd.replace('"$DVC_STAGE"', declared.name.rpartition("@")[2]))
            stage(project, *arguments)
    run("dvc", "commit", "--force", cwd=project)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A project in which all stages have run, once for all workers: nobody changes it, not even by a `dvc repro`."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "built"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(copy_project(folder))
            (folder / "done").touch()
    return folder / NAMED


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's own folder, of none but these tests: to make its database takes longer than a flow that has nothing to
    do."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture
def unbuilt(copied: Path, tmp_path: Path) -> Path:
    """A copy to change of the project in which no stage has run."""
    return Path(shutil.copytree(copied, tmp_path / NAMED, symlinks=True))


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    """A copy of the built project to change."""
    return Path(shutil.copytree(built, tmp_path / NAMED, symlinks=True))

"""Where things lie in a project. These folders and files are spelled here and in dvc.yaml, and nowhere else."""

from pathlib import Path

PARAMS = Path("params")
CURRICULA = PARAMS / "curricula.yaml"
REGIMES = PARAMS / "regimes.yaml"
QUESTION_PARAMS = PARAMS / "questions.yaml"
AUDIT_PARAMS = PARAMS / "audit.yaml"
LIBRARIES = PARAMS / "libraries.yaml"
EXTRACTING = PARAMS / "extracting.yaml"
OPENCC = PARAMS / "opencc.json"
MODELS = PARAMS / "models"
NO_FILES = MODELS / "no-files"  # what DVC watches where a model is not given by its path
LAUNCHES = PARAMS / "launch"

PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")

DATA = Path("data")
DATA_POINTER = Path("data.dvc")  # where `data` comes from, and its hash
QUESTIONS = Path("questions")
POLICIES = Path("policies")
ORIGIN, HISTORY, ROLLOUTS = "policy.json", "history.jsonl", "rollouts.jsonl"  # in a policy's folder
TIMED = "throughput.jsonl"  # in a stage's work folder
RESULTS = Path("results")
ARMS = Path("reports/arms")
COURSES = Path("reports/courses")
PAGES = Path("reports/pages")
AUDIT = Path("reports/audit")
COMPARISON = Path("reports/compare")
PROBE = Path("reports/probe")
SEEDS = Path("reports/seeds")
THROUGHPUT = Path("reports/throughput")  # a file for each policy

FLOW_LOCK = Path(".upaya/flow.lock")  # held by the flow that builds in this checkout
TIMES = Path(".upaya/times.json")  # seconds that each stage took when a flow last ran it
WORK = Path(".upaya/work")  # of stages that are at work, outside DVC's outputs
EXPERIMENTS = Path(".upaya/experiments")  # a folder like WORK for each of DVC's experiments that is at work or stopped


def work_lock(name: str, work: Path = WORK) -> Path:
    """What the process that trains a policy holds: two in one work folder would write one history."""
    return work / f"{name}.lock"


def progress_file(name: str, work: Path = WORK) -> Path:
    """How far the training of a policy is, while it is not published."""
    return work / f"{name}.progress"


def main_checkout(start: Path | None = None) -> Path:
    """The project's root; from inside a DVC experiment's temporary copy (.dvc/tmp/exps/…) the main checkout's."""
    here = (start or Path.cwd()).resolve()
    parts = here.parts
    for index in range(len(parts) - 2):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:index])
    return here

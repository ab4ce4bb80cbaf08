"""Where things lie in a project. These folders and files are spelled here and in dvc.yaml, and nowhere else."""

from pathlib import Path

PARAMS = Path("params")
CURRICULA = PARAMS / "curricula.yaml"
REGIMES = PARAMS / "regimes.yaml"
QUESTION_PARAMS = PARAMS / "questions.yaml"
AUDIT_PARAMS = PARAMS / "audit.yaml"
LIBRARIES = PARAMS / "libraries.yaml"
OPENCC = PARAMS / "opencc.json"
MODELS = PARAMS / "models"
NO_FILES = MODELS / "no-files"  # what DVC watches where a model is not given by its path
LAUNCHES = PARAMS / "launch"

PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")

DATA = Path("data")
QUESTIONS = Path("questions")
POLICIES = Path("policies")
RESULTS = Path("results")
ARMS = Path("reports/arms")
COURSES = Path("reports/courses")
PAGES = Path("reports/pages")
AUDIT = Path("reports/audit")
COMPARISON = Path("reports/compare")
PROBE = Path("reports/probe")
SEEDS = Path("reports/seeds")

WORK = Path(".upaya/work")  # of stages that are at work, outside DVC's outputs

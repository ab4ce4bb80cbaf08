"""What a result is made from, DVC knows.

Of every stage, the code that it imports, the keys that it reads and the libraries that it uses are computed and held
against dvc.yaml; and edits of all kinds make just the right stages stale.
"""

import ast
import importlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from conftest import ROOT, edit
from dvc.repo import Repo
from pydantic import BaseModel

from tasks.__main__ import COMPUTING, TRAINING

OURS = ("upaya", "tasks", "components")
# What a stage imports, and what cannot change its result. What these import for themselves is not looked at.
HARMLESS = {
    "upaya.errors": "words for a person",
    "upaya.terminal": "progress and tables on the screen",
    "upaya.paths": "names of files: one that differs from dvc.yaml's is a missing output, which DVC refuses",
    "upaya.tracking.tracker": "a view: what it writes is no output",
    "upaya.tracking.told": "what that view is told",
    "tasks.__main__": "starts a stage; what it switches on stands in upaya/startup.py and upaya/numerics.py",
    "upaya.locks": "who may work, not what comes of it",
    "upaya.time_limit": "ends what never would, with words; whatever ends by itself is as it was",
    "tasks.launch": "starts the processes that the declared launch asks for",
    "tasks.heap": "how much memory is held, not what is computed in it",
}
# Third-party packages that a stage imports and that make no numbers; a source says itself which reasoning_gym it is of.
NO_NUMBERS = {
    "httpx2",
    "huggingface_hub",
    "pydantic",
    "typing_extensions",
    "yaml",
    "rich",
    "psutil",
    "typer",
    "reasoning_gym",
}
PACKAGES = {"math_verify": "math-verify"}  # where a package is not called as it is imported


def stages() -> dict[str, dict[str, Any]]:
    """Every stage of dvc.yaml, those under foreach once."""
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in declared.items()}


def program(stage: dict[str, Any]) -> tuple[str, ...]:
    """The modules that a stage starts with."""
    name = stage["cmd"].split()[2]  # exec tasks/run <name>
    return (f"tasks.{name}", "upaya.startup") if name in COMPUTING + TRAINING else (f"tasks.{name}",)


@cache
def graph() -> grimp.ImportGraph:
    sys.path.insert(0, str(ROOT))
    return grimp.build_graph(*OURS, include_external_packages=True, cache_dir=None)


@cache
def closure(roots: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """(modules of ours, packages of others) that a program imports, directly or not, at its top or within functions."""
    ours, others, todo = set[str](), set[str](), list(roots)
    while todo:
        module = todo.pop()
        if module in ours or module in HARMLESS:
            continue
        ours.add(module)
        for imported in graph().find_modules_directly_imported_by(module):
            if imported.split(".")[0] in OURS:
                todo.append(imported)
            else:
                others.add(imported.split(".")[0])
    return frozenset(ours), frozenset(others)


def file_of(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


STAGES = stages()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_what_it_imports_and_on_nothing_else(name: str) -> None:
    imported = {file_of(module) for module in closure(program(STAGES[name]))[0]}
    deps = [ROOT / dep for dep in STAGES[name]["deps"] if dep.split("/")[0] in ("upaya", "tasks")]
    assert all(dep.exists() for dep in deps), deps
    files = {file for dep in deps for file in (sorted(dep.rglob("*.py")) if dep.is_dir() else [dep])}
    assert not imported - files, "imported, and no dependency"
    assert not {file for file in files - imported if file.name != "__init__.py"}, "dependencies that are not imported"
    scores = ROOT / "upaya/rewards/components.py" in imported
    assert scores == ("components" in STAGES[name]["deps"]), "components of a user's own go with the rewards"


def test_rooms_hold_a_sentence_and_no_code_of_their_own() -> None:
    """Importing a module imports the packages it lies in, which no stage depends on."""
    for path in [ROOT / "upaya/__init__.py", *(ROOT / "upaya").rglob("__init__.py"), ROOT / "tasks/__init__.py"]:
        (only,) = ast.parse(path.read_text()).body
        assert isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant), path


def test_every_harmless_file_is_there_and_says_why() -> None:
    assert all(file_of(module).exists() and reason for module, reason in HARMLESS.items())


def keys_read(modules: frozenset[str]) -> Iterator[tuple[str, str]]:
    """(file, key) of every `load_keys` in some modules, with {} for what is filled in when it runs."""
    for module in modules:
        for node in ast.walk(ast.parse(file_of(module).read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load_keys"):
                continue
            loaded = importlib.import_module(module)
            assert isinstance(node.args[0], ast.Name) and isinstance(node.args[1], ast.Name)
            path, model = getattr(loaded, node.args[0].id), getattr(loaded, node.args[1].id)
            assert issubclass(model, BaseModel)
            elsewhere = {word.arg: template(word.value) for word in node.keywords}
            for field in model.model_fields:
                yield str(path), elsewhere.get(field, field)


def template(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.JoinedStr)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


def whole_files(modules: frozenset[str]) -> set[str]:
    """Files under params/ that some modules read as a whole."""
    readers = {
        "load_model_file": "params/models/{}.yaml",
        "load_launch": "params/launch/{}.yaml",
        "QuestionParams": "params/questions.yaml",
        "OPENCC": "params/opencc.json",
    }
    text = "\n".join(file_of(module).read_text() for module in modules if module.split(".")[1] != "declared")
    return {path for word, path in readers.items() if re.search(rf"\b{word}\b", text)}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_keys_that_it_reads_and_no_others(name: str) -> None:
    declared: set[tuple[str, str]] = set()
    whole: set[str] = set()
    for params in STAGES[name]["params"]:
        for path, keys in params.items():
            path = re.sub(r"\$\{.*?\}", "{}", path)
            if keys is None:
                whole.add(path)
            declared |= {(path, re.sub(r"\$\{.*?\}", "{}", key)) for key in keys or []}
    modules = closure(program(STAGES[name]))[0]
    assert {pair for pair in declared if pair[0] != "params/libraries.yaml"} == set(keys_read(modules))
    assert whole == whole_files(modules)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_libraries_that_make_its_numbers(name: str) -> None:
    numbers = set(yaml.safe_load((ROOT / "params/libraries.yaml").read_text()))
    imported = closure(program(STAGES[name]))[1] - sys.stdlib_module_names
    used = {PACKAGES.get(package, package) for package in imported}
    assert not used - numbers - NO_NUMBERS, "does it make numbers? See params/libraries.yaml and NO_NUMBERS here"
    named = [params.get("params/libraries.yaml") or [] for params in STAGES[name]["params"]]
    assert {library for libraries in named for library in libraries} == used & numbers


def test_declared_versions_are_those_of_the_lock() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = dict(line.split(";")[0].strip().lower().split("==") for line in lines if "==" in line)
    declared = yaml.safe_load((ROOT / "params/libraries.yaml").read_text())
    assert declared == {name: pins[name] for name in declared}


# --- edits, and what dvc status says of them --------------------------------------------------------------------------

POLICIES = {"policy@lenient", "policy@lenient-strict", "policy@scheduled"}
TRAINED = {"pretrain", "warmup"} | POLICIES
EVALUATED = {
    "evaluate-start@base", "evaluate-start@warmup", "evaluate@lenient", "evaluate@lenient-strict", "evaluate@scheduled",
}  # fmt: skip
PROBED = {"probe@base", "probe@warmup"}
SCORED = {"warmup"} | POLICIES | EVALUATED | PROBED
ARMS = {"arm@lenient-strict", "arm@scheduled"}
COMPARED = ARMS | {"compare"}
PAGES = {"page@lenient", "page@lenient-strict", "page@scheduled", "comparison-page"}


def replaced(path: str, old: str, new: str) -> Callable[[Path], None]:
    def do(project: Path) -> None:
        text = (project / path).read_text()
        assert old in text, f"{path} does not hold {old!r}"
        (project / path).write_text(text.replace(old, new, 1))

    return do


def said(path: str) -> Callable[[Path], None]:
    """Another word in a docstring."""
    return replaced(path, '"""', '"""Well: ')


def declared(path: str, *keys: str, value: object) -> Callable[[Path], None]:
    return lambda project: edit(project / path, *keys, value=value)


EDITS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    # The holes that there were.
    "what SFT teaches": (
        replaced("upaya/corpus/questions.py", "return gold_completion(", "return '' + gold_completion("),
        {"convert"} | TRAINED | SCORED | ARMS | PAGES,
    ),
    "default of Grpo.iterations": (replaced("upaya/declared/grpo.py", "default=1, gt=0", "default=2, gt=0"), POLICIES),
    "default of Grpo.betas": (replaced("upaya/declared/grpo.py", "(0.9, 0.95)", "(0.9, 0.99)"), POLICIES),
    "another torch": (declared("params/libraries.yaml", "torch", value="2.14.0"), TRAINED | SCORED),
    "is_live": (replaced("upaya/rewards/groups.py", "!=", "<"), SCORED),
    "the answer tags": (
        replaced("upaya/corpus/answers.py", '"<answer>"', '"<reply>"'),
        {"convert"} | TRAINED | SCORED | ARMS | PAGES,
    ),
    "files.py": (
        replaced("upaya/files.py", "ensure_ascii=False", "ensure_ascii=True"),
        {"convert"} | TRAINED | SCORED | COMPARED | PAGES,
    ),
    "history.py": (replaced("upaya/training/steps/history.py", "\\n", "\\r"), TRAINED),
    "checkpoints.py": (replaced("upaya/training/steps/checkpoints.py", "KEPT = 2", "KEPT = 3"), TRAINED),
    "the dictionary of the script": (
        replaced("params/opencc.json", '"尼乾": "尼乾"', '"尼乾": "尼干"'),
        {"convert"} | SCORED,
    ),
    # Further ones.
    "another opencc": (declared("params/libraries.yaml", "opencc", value="1.5.0"), {"convert"} | SCORED),
    "another tokenizers": (declared("params/libraries.yaml", "tokenizers", value="0.24.0"), {"pretrain"}),
    "another peft": (declared("params/libraries.yaml", "peft", value="0.22.0"), TRAINED | EVALUATED | PROBED),
    "another matplotlib": (
        declared("params/libraries.yaml", "matplotlib", value="3.12.0"),
        EVALUATED | COMPARED | PAGES,
    ),
    "another plotly": (declared("params/libraries.yaml", "plotly", value="7.2.0"), PAGES),
    "another ruff": (replaced("requirements.lock", "ruff==", "ruff==1"), set()),
    "another mlflow": (replaced("requirements.lock", "mlflow==", "mlflow==1"), set()),
    "the advantages": (replaced("upaya/training/grpo/advantages.py", "1e-4", "1e-6"), POLICIES),
    "how many rows are decoded at once": (
        replaced("upaya/declared/sampling.py", "ROWS_AT_ONCE = 512", "ROWS_AT_ONCE = 256"),
        SCORED,
    ),
    "a component of one's own": (said("components/__init__.py"), SCORED),
    "a launch in other processes": (declared("params/launch/one-process.yaml", "processes", value=2), TRAINED),
    "other numerics": (declared("params/curricula.yaml", "numerics", "threads", value=3), TRAINED | SCORED),
    "a learning rate": (
        declared("params/curricula.yaml", "policies", "lenient", "learning_rate", value=1e-5),
        {"policy@lenient"},
    ),
    "the group size": (declared("params/curricula.yaml", "grpo", "group_size", value=4), POLICIES | EVALUATED | PROBED),
    "a schedule": (declared("params/regimes.yaml", "regimes", "annealed", "steps", value=7), {"policy@scheduled"}),
    "a regime that nobody is trained on": (
        declared("params/regimes.yaml", "regimes", "new", value={"components": {"exact": {"weight": 1}}}),
        set(),
    ),
    "resamples of the evaluation": (declared("params/curricula.yaml", "evaluation", "bootstrap", value=99), EVALUATED),
    "the arms of the comparison": (
        declared("params/curricula.yaml", "compare", value=["lenient-strict"]),
        {"compare"} | PAGES,
    ),
    "a policy that is no arm": (
        declared("params/curricula.yaml", "policies", "more",
                 value={"from": "warmup", "regime": "strict", "learning_rate": 1e-4}),
        {"policy@more", "evaluate@more", "page@more"},
    ),
    "a number of statements": (
        declared("params/questions.yaml", "sources", "elements", "statements", value=9),
        {"convert"},
    ),
    # Words, in files that a stage uses and in files that it does not.
    "words in the losses": (said("upaya/training/grpo/loss.py"), POLICIES),
    "words in the warm-up": (said("upaya/training/sft/warmup.py"), {"warmup"}),
    "words in the probe": (said("upaya/measuring/probe.py"), PROBED),
    "words in the comparison": (said("upaya/measuring/comparison.py"), COMPARED),
    "words in what the page shows": (said("upaya/page/course.py"), ARMS | PAGES),
    "words in the page": (replaced("upaya/page/page.html", "What is asked", "What was asked"), PAGES),
    "the page's style": (replaced("upaya/page/page.css", "60rem", "61rem"), PAGES),
    "words in the audit": (said("upaya/measuring/audit.py"), set()),
    "words in the errors": (said("upaya/errors.py"), set()),
    "words in the tracking": (said("upaya/tracking/tracker.py"), set()),
    "words in the console script": (said("upaya/cli.py"), set()),
    "words in the flow": (said("flows/curriculum.py"), set()),
    "words in the README": (replaced("README.md", "#", "##"), set()),
}  # fmt: skip


@pytest.fixture(scope="module")
def watched(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the built project, every edit of which is taken back."""
    return Path(shutil.copytree(built, tmp_path_factory.mktemp("watched") / "project", symlinks=True))


def stale(project: Path) -> dict[str, Any]:
    """The stages that are, and what of theirs has changed."""
    with Repo(str(project)) as repo:
        return {address.rpartition("dvc.yaml:")[2]: changed for address, changed in repo.status().items()}


def test_nothing_is_stale_at_first(watched: Path) -> None:
    assert not stale(watched)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_makes_exactly_the_right_stages_stale(name: str, watched: Path) -> None:
    do, right = EDITS[name]
    kept = {path: (watched / path).read_bytes() for path in edited_files(watched)}
    try:
        do(watched)
        assert set(stale(watched)) == right
    finally:
        for path, data in kept.items():
            if (watched / path).read_bytes() != data:
                (watched / path).write_bytes(data)


def edited_files(project: Path) -> list[str]:
    folders = ("upaya", "params", "components", "flows", "tasks")
    files = [file for folder in folders for file in (project / folder).rglob("*") if file.is_file()]
    return [str(file.relative_to(project)) for file in [*files, project / "requirements.lock", project / "README.md"]]


def test_a_model_given_by_its_path_is_watched(project: Path) -> None:
    """One byte more in its folder makes pretrain stale, which takes it, and nothing else."""
    shutil.copytree(project / "policies/base", project / "mine")
    (project / "params/models/mine.yaml").write_text("path: mine\n")
    edit(project / "params/curricula.yaml", "model", value="mine")
    edit(project / "params/curricula.yaml", "model_files", value="mine")
    with Repo(str(project)) as repo:
        repo.commit(f"{project / 'dvc.yaml'}:pretrain", force=True)
    before = stale(project)
    (project / "mine/generation_config.json").write_text("{}\n")
    after = stale(project)
    assert "pretrain" not in before and after.pop("pretrain") and after == before

"""Hostile outputs: files that the stages wrote, and folders of models, changed; then whole commands that read them.

    python -m bench.hostile_outputs --built ../built --seconds 1200 --seed 1

Each case copies a small checkout (made from a built one, which is read only), changes one file of it by bytes, by a
value or by what stands there in its place, and runs one command on it in a forked process. The classes are those of
bench.hostile, and:

    accepted though wrong   also: other bytes than policy.json tells of were used, or a stage that went on from a
                            damaged checkpoint came to another policy
    signal                  the process was ended by one
    damage                  after a refusal anything is not as it was; after success what the command does not write
"""

import argparse
import csv
import hashlib
import io
import json
import os
import re
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

os.environ.update(
    COLUMNS="150", OMP_NUM_THREADS="1", DVC_NO_ANALYTICS="1", DO_NOT_TRACK="true", MLFLOW_DISABLE_TELEMETRY="true"
)

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bench.hostile import FRAGMENTS, NO_NUMBERS, NO_TEXTS, Counted, leaves, mutated_bytes, put_at, tell
from upaya.startup import start

SECONDS_A_CASE = 60.0
MEMORY = 12 * 2**30  # bytes that a case may ask for
HEAD = 4096  # bytes of a longer file in which half of the changes are made
NAME, PARENT = "lenient-strict", "lenient"
MODEL = Path("model")  # a folder in the transformers layout, without what makes it a policy
WORK = Path(".upaya/work") / NAME
TRACKED = ("params", "corpus", "components", "tasks", "upaya", "flows", "dvc.yaml", "dvc.lock", "data.dvc",
           ".gitignore", ".dvcignore", ".dvc/config")  # fmt: skip
NOT_LINKED = (".upaya", ".dvc", "mlruns")  # what is written in place there
NOT_COMPARED = (*NOT_LINKED, ".git", "__pycache__")
WRONG_NUMBERS = [value for value in NO_NUMBERS if value != 10**30]  # which is one, in a file that is measured
OF_TEMPLATES = [
    b"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", b"{{ raise_exception('no') }}",
    b"{% if x %}", b"{{ messages[9].content }}", b"{{ 1 / 0 }}", b"{{ ''.__class__.__mro__ }}", b"{% endfor %}",
]  # fmt: skip

SHOW, DEAD, ASK = f"upaya show {NAME}", f"upaya show {NAME} --dead", f"upaya ask {NAME} --samples 1"
TRACK, PLAN, STATUS = "upaya track", f"upaya plan {NAME}", "upaya status"
TABLE, EXPORT, AUDIT = "upaya compare", "upaya export questions --to out", "upaya audit"
PAGE, ARM, EVALUATE, TRAIN = (f"tasks/run {stage} {NAME}" for stage in ("page", "arm", "evaluate", "grpo"))
PROBE, COMPARE, COMPARISON_PAGE = "tasks/run probe warmup", "tasks/run compare", "tasks/run comparison_page"
ADOPT, ASK_MODEL, PRETRAIN = f"upaya adopt --model {MODEL} --name own", f"upaya ask {MODEL} ？", "tasks/run pretrain"
NAMELESS = ("samples.jsonl", "curve.csv", "rollouts.jsonl", "arms.json")  # say not whose they are
SLOW = (TRACK, PLAN, STATUS, AUDIT)  # seconds each, and so chosen less often
AUDITED = "earns more than declared"  # what it was asked to find: no refusal
THROUGHPUT = "reports/throughput"  # of every stage that trains
WRITES: dict[str, tuple[str, ...]] = {
    EXPORT: ("out",), PAGE: ("reports/pages",), ARM: ("reports",), EVALUATE: (f"results/{NAME}",),
    TRAIN: (f"policies/{NAME}", THROUGHPUT), PROBE: ("reports/probe",), COMPARE: ("reports/compare",),
    COMPARISON_PAGE: ("reports/compare",), ADOPT: ("params",), PRETRAIN: ("policies/base", THROUGHPUT),
    AUDIT: ("reports/audit",),
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Attributes:
    commands: those that read it.
    exact: whether any other bytes than those that were written are wrong.
    typed: whether a value of another type is wrong, and what is no file; free: keys below which it is not.
    """

    file: Path
    commands: tuple[str, ...]
    exact: bool = False
    typed: bool = True
    free: tuple[str, ...] = ()
    fragments: tuple[bytes, ...] = tuple(FRAGMENTS)


def targets(project: Path) -> list[Target]:
    mine, before = Path("policies") / NAME, Path("policies") / PARENT
    results = Path("results") / NAME
    found = [
        Target(mine / "policy.json", (SHOW, DEAD, ASK, TRACK, PAGE, ARM, EVALUATE, STATUS), free=("params",)),
        Target(before / "policy.json", (SHOW, PAGE, ARM, EVALUATE, TRAIN), free=("params",)),
        Target(Path("policies/base/policy.json"), (SHOW, TRACK, PAGE), free=("params",)),
        Target(mine / "history.jsonl", (SHOW, TRACK, PAGE)),
        Target(mine / "history.jsonl", (EVALUATE,), exact=True),
        Target(before / "history.jsonl", (SHOW, PAGE, EVALUATE)),
        Target(Path("policies/base/history.jsonl"), (SHOW, TRACK)),
        Target(mine / "rollouts.jsonl", (DEAD, PAGE), free=("right",)),
        Target(results / "details.json", (SHOW, TRACK, PAGE, ARM)),
        Target(results / "metrics.json", (SHOW, TRACK, STATUS), typed=False),
        Target(results / "samples.jsonl", (TRACK, PAGE, ARM)),
        Target(results / "curve.csv", (ARM,)),
        Target(Path("results/warmup/details.json"), (SHOW, PAGE)),
        Target(Path("reports/compare/arms.json"), (TABLE, TRACK)),
        Target(Path(f"reports/arms/{NAME}.json"), (COMPARE,)),
        Target(
            Path(f"reports/courses/{NAME}.json"), (COMPARISON_PAGE,), free=("right", "declared", "reward", "skills")
        ),
        Target(Path("reports/probe/warmup.json"), (PLAN, TRACK, COMPARE)),
        Target(Path("questions/test.jsonl"), (EXPORT, EVALUATE, PAGE)),
        Target(Path("questions/train.jsonl"), (TRAIN, EXPORT)),
        Target(Path("questions/validation.jsonl"), (ASK, EXPORT, PROBE, TRAIN, AUDIT)),
        Target(Path("questions/report.json"), (EXPORT, PAGE, AUDIT), typed=False),
        Target(Path(".upaya/times.json"), (PLAN, STATUS), typed=False),
        Target(Path("dvc.lock"), (STATUS, PLAN), typed=False),
        Target(Path("data.dvc"), (PAGE, STATUS), typed=False),
    ]
    for file in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                 "chat_template.jinja", "model.safetensors"):  # fmt: skip
        fragments = (*FRAGMENTS, *OF_TEMPLATES) if file.endswith(".jinja") else tuple(FRAGMENTS)
        if not (project / mine / file).is_file():
            continue
        found += [
            Target(mine / file, (ASK, EVALUATE), exact=True),
            Target(before / file, (TRAIN,), exact=True),
            Target(MODEL / file, (ADOPT, ASK_MODEL), typed=False, fragments=fragments),
            Target(MODEL / file, (PRETRAIN,), typed=False, fragments=fragments),
        ]
    for kept in sorted(path for path in (project / WORK).rglob("*") if path.is_file()):
        found.append(Target(kept.relative_to(project), (TRAIN, STATUS), typed=False))
    progress = WORK.with_suffix(".progress")
    return [*found, Target(progress, (STATUS,), typed=False), Target(WORK.with_suffix(".lock"), (STATUS,), typed=False)]


# --- the checkout that is changed -------------------------------------------------------------------------------------


def scratch(built: Path, folder: Path) -> Path:
    """A small checkout from a built one: fewer policies and questions, and a policy whose training was killed."""
    project = folder / "project"
    tracked = subprocess.run(["git", "ls-files", *TRACKED], cwd=built, capture_output=True, text=True, check=True)
    for name in (*tracked.stdout.splitlines(), "dvc.lock"):
        if (built / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(built / name, project / name)
    policies = _made_small(project, built)
    shutil.copytree(built / "data", project / "data")
    for name in policies:
        shutil.copytree(built / "policies" / name, project / "policies" / name)
        shutil.copytree(built / "results" / name, project / "results" / name)
    for name in ("arms", "courses", "compare", "probe"):
        shutil.copytree(built / "reports" / name, project / "reports" / name)
    (project / "questions").mkdir()
    shutil.copy(built / "questions/report.json", project / "questions/report.json")
    for split, most in (("train", 40), ("validation", 12), ("test", 12)):
        _few(built / f"questions/{split}.jsonl", project / f"questions/{split}.jsonl", most)
    not_of_a_model = shutil.ignore_patterns("policy.json", "*.jsonl")
    shutil.copytree(project / "policies/base", project / MODEL, ignore=not_of_a_model)
    (project / ".upaya").mkdir()
    (project / ".upaya/times.json").write_text(json.dumps({f"policy@{NAME}": 60.0}))
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    return project


def _made_small(project: Path, built: Path) -> list[str]:
    """params/ with little to compute, and few policies; their names, base first."""
    file = project / "params/curricula.yaml"
    params = yaml.safe_load(file.read_text())
    params["compare"] = sorted({*params["compare"][:3], NAME})
    wanted = [*params["compare"], params["auto"]["start_strict"], params["auto"]["start_lenient"], PARENT]
    line: dict[str, Any] = {}
    while wanted:
        if (name := wanted.pop()) in params["policies"]:
            line[name] = params["policies"][name]
            wanted.append(line[name]["from"])
    params["policies"] = line
    params["numerics"]["threads"] = 1
    params["sampling"]["max_new_tokens"] = 24
    params["evaluation"] = {"samples": 4, "ks": [1, 4], "bootstrap": 20}
    params["probe"] |= {"questions": 4, "samples": 4, "group_sizes": [4]}
    steps = json.loads((built / f"policies/{PARENT}/policy.json").read_text())["total_steps"]
    params["grpo"] |= {
        "budget": steps + 4, "prompts": 4, "group_size": 4, "checkpoint_every": 1,
        "dead_groups": {"type": "drop"}, "validation": {"every": 2, "questions": 4},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(params, allow_unicode=True, sort_keys=False))
    return ["base", "warmup", *line]


def _few(source: Path, to: Path, most: int) -> None:
    """The first so many questions of each kind and difficulty."""
    seen: dict[tuple[str, int], int] = {}
    kept = []
    for line in source.read_text().splitlines(keepends=True):
        question = json.loads(line)
        key = question["kind"], question["difficulty"]
        seen[key] = seen.get(key, 0) + 1
        kept += [line] if seen[key] <= most else []
    to.write_text("".join(kept))


def prepare(project: Path) -> str:
    """Half a training with its checkpoints, and MLflow's store. Returns the hash of what the training comes to."""
    for command in (TRACK, f"{TRAIN} until its third checkpoint"):
        code, said = forked(project, command)
        if code:
            raise SystemExit(f"{command}: exit code {code}\n{said}")
    with copied(project) as copy:
        code, said = forked(copy, TRAIN)
        if code or "resumed" not in said:
            raise SystemExit(f"{TRAIN}: exit code {code}\n{said}")
        return trained(copy)


def trained(project: Path) -> str:
    digest = hashlib.sha256()
    for name in ("model.safetensors", "history.jsonl", "rollouts.jsonl"):
        digest.update((project / "policies" / NAME / name).read_bytes())
    return digest.hexdigest()


@contextmanager
def copied(project: Path) -> Iterator[Path]:
    """A copy, of links where nothing is written in place: a file is to be removed before it is changed."""
    copy = project.with_name("case")

    def link(source: str, to: str) -> None:
        in_place = Path(source).relative_to(project).parts[0] in NOT_LINKED
        (shutil.copy2 if in_place else os.link)(source, to)

    shutil.copytree(project, copy, copy_function=link)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


# --- one case ---------------------------------------------------------------------------------------------------------


def forked(folder: Path, command: str, seconds: float = SECONDS_A_CASE) -> tuple[int | None, str]:
    """A command as it is typed in a folder. Returns its exit code (a signal's number negative, None where it took
    longer) and all that it said."""
    with tempfile.TemporaryFile() as out:
        process = os.fork()
        if not process:
            _child(folder, command, out.fileno())
        end = time.monotonic() + seconds
        status: int | None = None
        while status is None and time.monotonic() < end:
            ended, status_now = os.waitpid(process, os.WNOHANG)
            status = status_now if ended else None
            time.sleep(0.005)
        if status is None:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
        out.seek(0)
        said = out.read().decode(errors="replace")
    return (None if status is None else os.waitstatus_to_exitcode(status)), said


def _child(folder: Path, command: str, out: int) -> NoReturn:
    code: Any = 0
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        os.chdir(folder)
        for stream in (1, 2):
            os.dup2(out, stream)
        _run(shlex.split(command))
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:  # what is looked for
        traceback.print_exc()
        code = 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 98)


def _run(words: list[str]) -> None:
    from tasks.__main__ import main as stage
    from upaya.cli import app
    from upaya.errors import shown_to_user
    from upaya.training.steps.checkpoints import Checkpoints

    program, *arguments = words
    with shown_to_user():
        if program == "upaya":
            app(arguments)
        elif "until" not in arguments:
            stage(arguments)
        else:
            save = Checkpoints.save

            def until_third(self: Checkpoints, step: int, *rest: Any) -> None:
                if len(self.steps()) == 2:
                    os._exit(0)
                save(self, step, *rest)

            with patch.object(Checkpoints, "save", until_third):
                stage(arguments[: arguments.index("until")])


def states(project: Path) -> dict[str, tuple[int, ...]]:
    """What shows that a file was written or replaced, of all that are compared."""
    found: dict[str, tuple[int, ...]] = {}
    for path in project.rglob("*"):
        relative = path.relative_to(project)
        if not {*relative.parts} & {*NOT_COMPARED}:
            now = path.lstat()
            is_folder = stat.S_ISDIR(now.st_mode)
            found[str(relative)] = (now.st_mode,) if is_folder else (now.st_ino, now.st_size, now.st_mtime_ns)
    return found


def changed(project: Path, before: dict[str, tuple[int, ...]], command: str, refused: bool) -> list[str]:
    """What a command changed that it should not have, and what it left half-written."""
    now, may = states(project), WRITES.get(command, ())
    differing = sorted(path for path in {*now, *before} if now.get(path) != before.get(path))
    halves = [str(path.relative_to(project)) for path in project.rglob("*.partial")]
    if not refused:
        differing = [path for path in differing if not any(part in path for part in may)]
    return [*differing, *halves]


def outcome(project: Path, target: Target, command: str, wrong: bool, expected: str) -> tuple[str, str]:
    """The class of what a command comes to in a changed checkout, and what was said."""
    before = states(project)
    code, said = forked(project, command)
    if command == AUDIT and AUDITED in said:
        code = 0
    if code is None:
        return "hang", f"more than {SECONDS_A_CASE:g} s: {said[-300:]}"
    if code < 0:
        return "signal", f"{signal.Signals(-code).name}: {said[-300:]}"
    if "Traceback (most recent call last)" in said:
        return "traceback", said[-1500:]
    if found := changed(project, before, command, refused=code != 0):
        return "damage", f"{', '.join(found[:5])}: {said[-300:]}"
    if code == 0:
        other = command == TRAIN and WORK in target.file.parents and trained(project) != expected
        return ("accepted though wrong" if wrong or other else "accepted"), said[-300:]
    clear = code == 1 and said.count("error:") == 1 and _names(said, target.file)
    return ("answered" if clear else "unclear"), f"exit code {code}: {said[-600:]}"


def _names(said: str, file: Path) -> bool:
    return file.name in said or re.search(rf"(^|[\s'\"(`]){re.escape(str(file.parent))}\b", said) is not None


# --- changes ----------------------------------------------------------------------------------------------------------

Change = Callable[[Path], bool]  # of a file; whether it is wrong then, whatever is read of it


def _written(data: bytes, wrong: bool = False) -> Change:
    def change(file: Path) -> bool:
        differs = data != file.read_bytes()
        file.unlink()
        file.write_bytes(data)
        return wrong and differs

    return change


def _state(name: str, wrong: bool) -> Change:
    def change(file: Path) -> bool:
        before = file.read_bytes()
        other = _sibling(file).read_bytes() if name == "another's" else None
        file.unlink()
        match name:
            case "folder":
                file.mkdir()
            case "looped":
                file.symlink_to(file.name)
            case "emptied":
                file.touch()
            case "another's" if other is not None:
                file.write_bytes(other)
        return wrong and (name in ("folder", "looped") or other not in (None, before))  # others: what needs it says so

    return change


def _sibling(file: Path) -> Path:
    """The same of another policy, or another of the same folder; itself where there is none."""
    others = [*file.parent.parent.glob(f"*/{file.name}"), *file.parent.glob(f"*{file.suffix}")]
    return min((other for other in others if other != file), default=file)


@st.composite
def changes(draw: st.DrawFn, target: Target, data: bytes) -> tuple[str, Change]:
    """A change of a file, and how it is called."""
    of = st.sampled_from(["bytes", "bytes", "value", "value", "state"])
    match draw(of):
        case "state":
            name = draw(st.sampled_from(["folder", "looped", "missing", "emptied", "another's"]))
            named = name != "another's" or target.file.name not in NAMELESS
            return name, _state(name, (target.typed and named) or target.exact)
        case "value" if target.file.suffix in (".json", ".jsonl", ".csv") and b"\n" in data:
            return "value", _written(*draw(wrong_values(target, data)))
    head = draw(st.booleans()) and len(data) > HEAD
    part, rest = (data[:HEAD], data[HEAD:]) if head else (data, b"")
    new = draw(mutated_bytes(part, list(target.fragments))) + rest
    return "bytes", _written(new, target.exact)


@st.composite
def wrong_values(draw: st.DrawFn, target: Target, data: bytes) -> tuple[bytes, bool]:
    """A file in which one value is of another type, and whether that is wrong."""
    lines = data.decode().splitlines()
    if target.file.suffix == ".csv":
        header, *rows = list(csv.reader(lines))
        row, column = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(header) - 1))
        rows[row][column] = draw(st.sampled_from(["five", "nan", "inf", "[]", "1e999", "1,"]))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        return text.getvalue().encode(), header[column] not in ("trained_on", "switch")
    of_lines = target.file.suffix == ".jsonl"
    place = draw(st.integers(0, len(lines) - 1))
    content = json.loads(lines[place] if of_lines else data)
    path, value = draw(st.sampled_from(list(leaves(content)) or [((), None)]))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    new = draw(st.sampled_from(WRONG_NUMBERS if is_number else NO_TEXTS))
    wrong = target.typed and value is not None and not isinstance(value, bool) and not {*target.free} & {*path}
    text_now = json.dumps(put_at(content, path, new), ensure_ascii=False, indent=None if of_lines else 2)
    if of_lines:
        text_now = "\n".join([*lines[:place], text_now, *lines[place + 1 :]])
    return f"{text_now}\n".encode(), wrong or target.exact


# --- the run ----------------------------------------------------------------------------------------------------------


def fuzz(project: Path, cases: int, seconds: float, first_seed: int, only: str = "") -> Counted:
    """So many cases, or as many as the seconds allow, spread over the files and, of each, over the commands."""
    counted, expected, adopted = Counted(), prepare(project), _adopted(project)
    before, end = states(project), time.monotonic() + seconds
    chosen = [target for target in targets(project) if only in f"{target.file} {' '.join(target.commands)}"]
    for number in range(first_seed, first_seed + 10**6):
        for target in chosen:
            heavy = PRETRAIN in target.commands or WORK in target.file.parents
            examples = min(1 if heavy else 6, cases - counted.classes.total())
            if time.monotonic() > end or examples <= 0:
                return counted
            base = adopted if PRETRAIN in target.commands else project
            _round(base, target, number, counted, examples, expected)
            if states(project) != before:
                raise SystemExit(f"{target.file} --seed {number}: a file was written in place")
    return counted


def _adopted(project: Path) -> Path:
    """The same checkout with the folder's model taken as its base."""
    adopted = project.with_name("adopted")
    shutil.copytree(project, adopted)
    code, said = forked(adopted, ADOPT)
    if code:
        raise SystemExit(f"{ADOPT}: exit code {code}\n{said}")
    return adopted


def _round(base: Path, target: Target, number: int, counted: Counted, examples: int, expected: str) -> None:
    data = (base / target.file).read_bytes()
    commands = [command for command in target.commands for _ in range(1 if command in SLOW else 5)]
    drawn = 0

    @seed(zlib.crc32(f"{number} {target.file} {target.commands}".encode()))
    @settings(max_examples=examples + 1, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate])  # fmt: skip
    @given(change=changes(target, data), command=st.sampled_from(commands))
    def case(change: tuple[str, Change], command: str) -> None:
        nonlocal drawn
        drawn += 1
        if drawn == 1:  # the simplest of all, and so the same for every file
            return
        how, by = change
        with copied(base) as project:
            wrong = by(project / target.file)
            found, said = outcome(project, target, command, wrong, expected)
        counted.add(found, f"{target.file} ({how}), {command}, --seed {number}: {said}")

    case()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built", type=Path, required=True, help="a checkout in which all stages have run")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=10**9, help="at most so many")
    parser.add_argument("--only", default="", help="targets whose file or commands have this in them")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_SITE_CACHE_DIR"] = str(Path(folder) / "dvc")
        project = scratch(asked.built, Path(folder))
        _import_all()
        counted = fuzz(project, asked.cases, asked.seconds, asked.seed, asked.only)
    tell(counted, asked.seed)


def _import_all() -> None:
    """What the commands import, once for all that are forked; nothing is computed here."""
    start()
    import importlib

    for name in (
        "dvc.repo", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "matplotlib.figure", "plotly.offline",
        "pyarrow.parquet", "tasks.arm", "tasks.compare", "tasks.comparison_page", "tasks.evaluate", "tasks.grpo",
        "tasks.page", "tasks.pretrain", "tasks.probe", "upaya.cli", "upaya.measuring.audit", "upaya.measuring.groups",
        "upaya.operating.adopting_model", "upaya.operating.exporting", "upaya.operating.plan",
        "upaya.operating.status", "upaya.tracking.rebuild",
    ):  # fmt: skip
        importlib.import_module(name)


if __name__ == "__main__":
    main()

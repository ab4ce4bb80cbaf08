"""Hostile input: files that a checkout declares, mutated by bytes and by values, read as the commands read them.

    python -m bench.hostile --seconds 300 --seed 1

Each case changes one file of a scratch copy, reads it by what the commands call before anything trains, and is counted:

    answered            a UserError that names a file
    accepted            what is left means something (a comment, another number)
    accepted though wrong   a value that its key cannot have was taken
    unclear             a UserError that names no file
    traceback, hang     neither
    damage              a file of the checkout is not what it was

It ends with exit code 1 where there are any but the first two, and shows the first of each with what makes it again.
"""

import argparse
import csv
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from upaya.corpus.authored import Corpus
from upaya.corpus.gathering import gather
from upaya.corpus.script import Converter
from upaya.corpus.sources.opened import opened
from upaya.declared.audit import AuditParams
from upaya.declared.curricula import load_curricula
from upaya.declared.extracting import ExtractingParams
from upaya.declared.launch import load_launch
from upaya.declared.libraries import need_installed
from upaya.declared.model import load_model_file
from upaya.declared.questions import QuestionParams
from upaya.declared.validation import load_yaml, validated
from upaya.errors import UserError
from upaya.paths import AUDIT_PARAMS, EXTRACTING, QUESTION_PARAMS
from upaya.rewards.regimes import load_regimes
from upaya.time_limit import Overtime, within

ROOT = Path(__file__).parents[1]
SECONDS_A_CASE = 30.0
WELL = ("answered", "accepted")
DATA = Path("corpus")
OWN = Path("own")
FILE = re.compile(r"[\w.-]+\.(yaml|json|jsonl|csv)\b")  # of two that disagree, either
OF_ALL = ("split is empty", "there is nothing to learn")  # said of all sources together, and so of no file

FRAGMENTS = [
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\t", b"\n", b"  ", b"'", b'"', b":", b"- ", b"[", b"]", b"{", b"}",
    b"&a ", b"*a", b"<<: *a", b"!!int ", b"!!python/name:os.system ", b"? ", b"| ", b"---\n", b".nan", b".inf", b"-1",
    b"1e999", b"true", b"null", b"~", b"9" * 30, b"9" * 5000, b"[" * 3000, b"{a: " * 3000, b"\\ud800", b'"\\ud800"',
    b"<answer>", b"<|end|>", b"\xe2\x80\xae", b"{list", b"{x}", "、".encode(), "　".encode(), "\u200b".encode(), b"NaN",
    b",", b"\x1b[2J",
]  # fmt: skip
NO_NUMBERS = [float("nan"), float("inf"), -float("inf"), True, "five", [], {}, "\0", 10**30]
NO_TEXTS: list[Any] = [[], {}, float("nan"), True, ["x"]]


@dataclass(frozen=True)
class Target:
    """Attributes: read: what the commands call. free: keys below which any value may stand, so that none is wrong."""

    file: Path
    read: Callable[[], object]
    free: tuple[str, ...] = ()


@dataclass
class Counted:
    classes: Counter[str] = field(default_factory=Counter)
    shown: dict[str, list[str]] = field(default_factory=dict)

    def add(self, outcome: str, case: str) -> None:
        self.classes[outcome] += 1
        if outcome not in WELL:
            self.shown.setdefault(outcome, []).append(case)

    @property
    def bad(self) -> int:
        return sum(count for outcome, count in self.classes.items() if outcome not in WELL)


def scratch(folder: Path) -> Path:
    """A copy of the tracked files that are declared, with questions of one's own in each format."""
    project = folder / "project"
    named = subprocess.run(["git", "ls-files", "params", "corpus", "dvc.yaml", "components"], cwd=ROOT,
                           capture_output=True, text=True, check=True)  # fmt: skip
    for name in named.stdout.splitlines():
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    rows = [
        {"id": f"q{number}", "prompt": f"第{number}問？", "answer": number, "answer_type": "number", "split": split,
         "kind": "mine", "difficulty": 1, "tolerance": 0.5, "reasoning": "因"}
        for number, split in enumerate(("train", "train", "validation", "validation", "test", "test"))
    ]  # fmt: skip
    (project / OWN).mkdir()
    (project / OWN / "own.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    (project / OWN / "own.csv").write_text(text.getvalue())
    return project


def _own_questions(kind: str) -> Callable[[], object]:
    def read() -> object:
        source = {"type": kind, "files": f"own.{kind}"}
        params = validated(QuestionParams, {"seed": 1, "sources": {"own": source}}, "params/questions.yaml")
        sources = {name: opened(name, declared, OWN, 1) for name, declared in params.sources.items()}
        return gather(sources, params, Converter())

    return read


def targets() -> list[Target]:
    """Every file that a checkout declares, as the commands read it."""

    def declared() -> object:
        return load_curricula(load_regimes())

    found = [
        Target(Path("params/curricula.yaml"), declared),
        Target(Path("params/regimes.yaml"), declared),
        Target(QUESTION_PARAMS, lambda: load_yaml(QUESTION_PARAMS, QuestionParams)),
        Target(AUDIT_PARAMS, lambda: load_yaml(AUDIT_PARAMS, AuditParams)),
        Target(EXTRACTING, lambda: load_yaml(EXTRACTING, ExtractingParams), ("answers",)),
        Target(Path("params/libraries.yaml"), lambda: need_installed("convert")),
        Target(Path("params/opencc.json"), Converter, ("name", "file", "type", "dict", "dicts")),
        Target(OWN / "own.jsonl", _own_questions("jsonl")),
        Target(OWN / "own.csv", _own_questions("csv")),
    ]
    any_value = ("architecture", "shape", "targets")  # of the last: any list of words, until there is a model to ask
    for file in sorted(Path("params/models").glob("*.yaml")):
        found.append(Target(file, lambda name=file.stem: load_model_file(name), any_value))  # type: ignore[misc]
    for file in sorted(Path("params/launch").glob("*.yaml")):
        found.append(Target(file, lambda name=file.stem: load_launch(name)))  # type: ignore[misc]
    found += [Target(file, lambda: Corpus(DATA)) for file in sorted([*DATA.glob("*.yaml"), *DATA.glob("lists/*.yaml")])]
    return found


@st.composite
def mutated_bytes(draw: st.DrawFn, data: bytes, fragments: Sequence[bytes] = FRAGMENTS) -> bytes:
    """A file with one to three places flipped, cut, doubled, or with something put in."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["flip", "cut", "double", "insert", "end"])):
            case "flip" if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
            case "cut":
                data = data[:at] + data[at + draw(st.integers(1, 80)) :]
            case "double":
                data = data[:at] + data[at : at + draw(st.integers(1, 80))] + data[at:]
            case "insert":
                data = data[:at] + draw(st.sampled_from(fragments)) + data[at:]
            case "end":
                data = data[:at]
    return data


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if parts is None:
        yield path, node
    for key, value in parts or ():
        yield from leaves(value, (*path, key))


def put_at(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = put_at(node[path[0]], path[1:], value)
    return copy


@st.composite
def wrong_values(draw: st.DrawFn, target: Target, content: Any) -> bytes | None:
    """A YAML file in which one value is none that its key can have; None for one where any may stand."""
    path, value = draw(st.sampled_from(list(leaves(content)) or [((), None)]))
    if value is None or isinstance(value, bool) or any(key in target.free for key in path):
        return None
    wrong = draw(st.sampled_from(NO_NUMBERS if isinstance(value, int | float) else NO_TEXTS))
    return yaml.safe_dump(put_at(content, path, wrong), allow_unicode=True, sort_keys=False).encode()


def outcome(target: Target, wrong: bool) -> tuple[str, str]:
    """The class of what reading a target comes to, and what was said."""
    try:
        with within(SECONDS_A_CASE):
            target.read()
    except UserError as error:
        told = str(error)
        named = FILE.search(told) or any(of_all in told for of_all in OF_ALL)
        return ("answered" if named else "unclear"), told
    except Overtime:
        return "hang", f"more than {SECONDS_A_CASE:g} s"
    except Exception:  # what is looked for
        return "traceback", traceback.format_exc(limit=-4)
    return ("accepted though wrong" if wrong else "accepted"), ""


def _state(files: list[Path]) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in files}


def fuzz(project: Path, cases: int, seconds: float, first_seed: int, only: str = "") -> Counted:
    """So many cases, or as many as the seconds allow, spread over the targets; the same seed makes the same cases."""
    counted, end = Counted(), time.monotonic() + seconds
    with chdir(project):
        files = [path for path in Path().rglob("*") if path.is_file()]
        before = _state(files)
        chosen = [target for target in targets() if only in str(target.file)]
        for number in range(first_seed, first_seed + 10**6):
            for target in chosen:
                if time.monotonic() > end or counted.classes.total() >= cases:
                    return counted
                _round(target, before, number, counted, min(10, cases - counted.classes.total()), end)
                files = [path for path in Path().rglob("*") if path.is_file() and "__pycache__" not in path.parts]
                if _state(files) != before:
                    counted.add("damage", f"{target.file} --seed {number}")
                    shutil.rmtree(project)
                    return counted
    return counted


def _round(target: Target, before: dict[Path, bytes], number: int, counted: Counted, examples: int, end: float) -> None:
    data = before[target.file]
    is_yaml = target.file.suffix == ".yaml"
    values = wrong_values(target, yaml.safe_load(data)) if is_yaml else st.none()

    @seed(number)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(by_bytes=mutated_bytes(data), by_value=values, which=st.booleans())
    def case(by_bytes: bytes, by_value: bytes | None, which: bool) -> None:
        if time.monotonic() > end:
            return
        changed = by_value if which and by_value is not None else by_bytes
        target.file.write_bytes(changed)
        try:
            found, told = outcome(target, changed is by_value)
        finally:
            target.file.write_bytes(data)
        shown = told if found != "accepted though wrong" else _difference(data, changed)
        counted.add(found, f"{target.file} --seed {number}: {shown}")

    case()


def _difference(data: bytes, changed: bytes) -> str:
    plain = yaml.safe_dump(yaml.safe_load(data), allow_unicode=True, sort_keys=False).splitlines()
    return " | ".join(line for line in changed.decode().splitlines() if line not in plain)[:200]


def tell(counted: Counted, first_seed: int) -> NoReturn:
    """Print what was counted, and end with the exit code that says whether all is well."""
    for name, cases in counted.shown.items():
        print(f"--- {name}")
        for one in list(dict.fromkeys(cases))[:10]:
            print(one)
    print(f"{counted.classes.total()} cases, seed {first_seed}:")
    for name, count in counted.classes.most_common():
        print(f"  {count:6} {name}")
    raise SystemExit(bool(counted.bad))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=10**9, help="at most so many")
    parser.add_argument("--only", default="", help="files whose path has this in it")
    asked = parser.parse_args()
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    with tempfile.TemporaryDirectory() as folder:
        counted = fuzz(scratch(Path(folder)), asked.cases, asked.seconds, asked.seed, asked.only)
    tell(counted, asked.seed)


if __name__ == "__main__":
    main()

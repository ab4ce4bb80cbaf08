"""What params/ may not hold, whatever its key: refused when it is read, with file and line or key; and a short fuzz."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from bench.hostile import fuzz, leaves, scratch
from upaya.declared.curricula import Curricula, load_curricula
from upaya.declared.grpo import Grpo
from upaya.declared.launch import Launch
from upaya.declared.model import ModelFile
from upaya.declared.questions import QuestionParams
from upaya.declared.regimes import RegimesFile
from upaya.declared.validation import DEEPEST, load_yaml, read_yaml, validated
from upaya.errors import UserError
from upaya.files import read_json, read_jsonl
from upaya.rewards.regimes import load_regimes

DECLARED: list[tuple[str, Any]] = [
    ("params/curricula.yaml", Curricula),
    ("params/regimes.yaml", RegimesFile),
    ("params/questions.yaml", QuestionParams),
    ("params/models/tiny.yaml", ModelFile),
    ("params/launch/8x80gb.yaml", Launch),
]
ANY = ("architecture", "shape")
NUMBERS = [
    (file, model, path)
    for file, model in DECLARED
    for path, value in leaves(read_yaml(ROOT / file))
    if type(value) in (int, float) and not any(key in ANY for key in path)
]


def put(content: Any, path: tuple[Any, ...], value: object) -> Any:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


@pytest.mark.parametrize("value", [True, "five", float("nan"), float("inf"), None, [], {}], ids=repr)
def test_no_number_is_anything_else(value: object) -> None:
    contents = {file: read_yaml(ROOT / file) for file, _ in DECLARED}
    optional = {"difficulty", "max_steps", "device_memory", "operations", "bandwidth"}
    for file, model, path in NUMBERS:
        content = deepcopy(contents[file])
        put(content, path, value)
        if value is None and path[-1] in optional:
            continue
        with pytest.raises(UserError, match=rf"{file}: key '{path[0]}"):
            validated(model, content, file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 3000 + "]" * 3000, f"line 1: not valid YAML .nested more than {DEEPEST} deep"),
        ("".join(" " * depth + "a:\n" for depth in range(1500)), f"line {DEEPEST}: .*nested more than {DEEPEST} deep"),
        ("b: 1\n? [1, 2]\n: 3", "line 2: not valid YAML .a key is one word"),
        ("? {a: 1}\n: 3", "line 1: not valid YAML .a key is one word"),
        ('a: 1\nb: "\\ud800"', "line 2: not valid YAML .*holds half a character"),
        ('"\\udfff": 1', "line 1: not valid YAML .*holds half a character"),
        ("a: 1\nb: 2\na: 3", "line 3: not valid YAML .key 'a' stands here twice"),
        ("a: &a\n  b: *a", "line 2: not valid YAML .an alias of what it stands in itself"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"{b}: &{b} [{', '.join(10 * [f'*{a}'])}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
            "more than 1000000 values, by its aliases",
        ),
        ("a: .nan", "line 1: not valid YAML ..nan is no finite number"),
        ("a: 1\nb: -.inf", "line 2: not valid YAML .-.inf is no finite number"),
        ("a: 1e999", "line 1: not valid YAML .1e999 is no finite number"),
        ("a: 1" + "0" * 30, "line 1: .* is out of range"),
        ("a: " + "9" * 5000, "line 1: .* is no int"),
        ("a: 2026-13-45", "line 1: .*'2026-13-45' is no timestamp"),
        ("a: !!int five", "line 1: .*'five' is no int"),
        ("a: !!bool five", "line 1: .*'five' is no bool"),
        ("a: !!python/object/apply:os.system [x]", "line 1: .*could not determine a constructor"),
        ("a: \0", "not valid YAML"),
    ],
    ids=range(19),
)
def test_yaml_that_no_file_of_ours_holds(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"x\.yaml[:,] .*{message}"):
        read_yaml(file)


def test_an_empty_file_and_one_of_another_kind(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    for text, what in (("", "empty"), ("- a", r"\['a'\]"), ("word", "'word'")):
        file.write_text(text)
        with pytest.raises(UserError, match=f"expected a mapping of keys to values, this is {what}"):
            load_yaml(file, RegimesFile)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1, "a": 2}', "key 'a' stands there twice"),
        ('{"a": "\\ud800"}', "holds half a character"),
        ("9" * 5000, "limit"),
        ("{", "Expecting"),
    ],
    ids=range(7),
)
def test_json_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(UserError, match=f"x.json.*: not JSON .*{message}"):
        read_json(file)
    file.write_text(f"{{}}\n{text}\n")
    with pytest.raises(UserError, match=f"x.json, line 2: not JSON .*{message}"):
        list(read_jsonl(file))


def test_whole_characters_may_be_escaped_and_yaml_may_have_aliases(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": "\\ud83d\\ude00"}')
    (tmp_path / "x.yaml").write_text("a: &a [1]\nb: *a\n")
    assert read_json(tmp_path / "x.json") == {"a": "\N{GRINNING FACE}"}
    assert read_yaml(tmp_path / "x.yaml") == {"a": [1], "b": [1]}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("warmup", "batch_size"), 10**9),
        (("grpo", "prompts"), 10**7),
        (("grpo", "group_size"), 10**9),
        (("sampling", "max_new_tokens"), 10**9),
        (("evaluation", "samples"), 10**9),
        (("evaluation", "bootstrap"), 10**9),
        (("probe", "questions"), 10**9),
        (("numerics", "threads"), 10**9),
        (("seed",), 2**63),
        (("grpo", "betas"), [0.9, 1.0]),
        (("warmup", "optimiser", "betas"), [-0.1, 0.9]),
    ],
)
def test_what_no_machine_holds_is_refused_by_its_key(path: tuple[str, ...], value: object) -> None:
    content = read_yaml(ROOT / "params/curricula.yaml")
    put(content, path, value)
    with pytest.raises(UserError, match=f"key '{'.'.join(path)}"):
        validated(Curricula, content, "params/curricula.yaml")


def test_what_no_machine_holds_together_names_the_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "params/curricula.yaml").read_text()
    file = tmp_path / "curricula.yaml"
    file.write_text(text.replace("prompts: 32", "prompts: 100000").replace("group_size: 8", "group_size: 1000"))
    with pytest.raises(UserError, match=r"grpo.prompts · grpo.group_size · sampling.max_new_tokens are 6,400,000,000"):
        load_curricula(load_regimes(), file)


def test_what_is_shipped_is_read() -> None:
    for file, model in DECLARED:
        load_yaml(ROOT / file, model)
    assert Grpo.model_fields["betas"].default == (0.9, 0.95)


def test_mutated_files_are_answered(tmp_path: Path) -> None:
    """The quick part of `python -m bench.hostile`: the same cases each time."""
    counted = fuzz(scratch(tmp_path), cases=60, seconds=120, first_seed=7, only="params")
    assert counted.classes.total() == 60 and not counted.bad, counted.shown

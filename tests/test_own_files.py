"""Files that the stages wrote, damaged or in a strange state: whoever reads one says which, where and what makes it
again, with exit code 1 and nothing changed."""

import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from own_files import write_all

import tasks.arm
import tasks.evaluate
import tasks.grpo
import tasks.page
from upaya.cli import app
from upaya.declared.selection import Selection
from upaya.errors import UserError, in_words, shown_to_user
from upaya.measuring.comparison import compare, read_arm, write_arm
from upaya.page.course import Course
from upaya.records.evaluations import curve_of, details_of, samples_of
from upaya.records.histories import histories_of, history_of, rollouts_of
from upaya.records.policies import line_of, verified
from upaya.training.steps.checkpoints import Checkpoints
from upaya.training.steps.tensors import Whole

NAME = "lenient-strict"
COMMANDS: dict[str, Callable[[], Any]] = {
    "show": lambda: app(["show", NAME], standalone_mode=False),
    "show --dead": lambda: app(["show", NAME, "--dead"], standalone_mode=False),
    "compare": lambda: app(["compare"], standalone_mode=False),
    "track": lambda: app(["track"], standalone_mode=False),
    "ask": lambda: app(["ask", NAME, "？"], standalone_mode=False),
    "export": lambda: app(["export", "questions", "--to", "out"], standalone_mode=False),
    "page": lambda: tasks.page.main(NAME),
    "arm": lambda: tasks.arm.main(NAME),
    "evaluate": lambda: tasks.evaluate.main(NAME),
    "grpo": lambda: tasks.grpo.main(NAME),
}
Damage = Callable[[Path], None]
POLICY, PARENT = "policies/lenient-strict/policy.json", "policies/lenient/policy.json"
HISTORY, ROLLOUTS = "policies/lenient/history.jsonl", "policies/lenient/rollouts.jsonl"
DETAILS, SAMPLES, CURVE = (f"results/{NAME}/{file}" for file in ("details.json", "samples.jsonl", "curve.csv"))
ARMS, TEST, REPORT = "reports/compare/arms.json", "questions/test.jsonl", "questions/report.json"
THROUGHPUT = "reports/throughput/lenient.jsonl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("whole")
    write_all(project)
    return project


@pytest.fixture
def made(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = Path(shutil.copytree(whole, tmp_path / "made"))
    monkeypatch.chdir(project)
    monkeypatch.setattr("upaya.startup.start_as_declared", lambda: None)  # this process may have computed before
    return project


@pytest.fixture
def refused(made: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    def refuse(command: str) -> str:
        before = contents(made)
        with pytest.raises(SystemExit) as ended, shown_to_user():
            COMMANDS[command]()
        message = "".join(capsys.readouterr())
        assert ended.value.code == 1 and message.count("error:") == 1, message
        assert contents(made) == before and not list(made.rglob("*.partial"))
        return " ".join(message.split())

    return refuse


def contents(project: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in project.rglob("*") if path.is_file() and ".upaya" not in path.parts}


def put(text: str) -> Damage:
    return lambda file: void(file.write_text(text))


def key(dotted: str, value: Any, line: int | None = None) -> Damage:
    """Give a key another value; an ellipsis takes it away. Args: line: of JSON lines, from 1."""

    def damage(file: Path) -> None:
        lines = file.read_text().splitlines()
        root = json.loads(lines[line - 1] if line else "\n".join(lines))
        node, (*inner, last) = root, dotted.split(".")
        for part in inner:
            node = node[int(part) if part.isdigit() else part]
        if value is ...:
            del node[last]
        else:
            node[last] = value
        text = json.dumps(root, ensure_ascii=False)
        file.write_text("\n".join([*lines[: line - 1], text, *lines[line:]]) if line else text)

    return damage


def lines(change: Callable[[list[str]], list[str]]) -> Damage:
    return lambda file: void(file.write_text("".join(change(file.read_text().splitlines(keepends=True)))))


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def looped(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(path.name)


def piped(path: Path) -> None:
    """As who reads would wait for someone to write."""
    path.unlink()
    os.mkfifo(path)


def filed(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def void(_: object) -> None: ...


DAMAGED = [
    (POLICY, put("null"), ["show", "track", "page", "arm", "evaluate", "ask"], "should be an object"),
    (POLICY, put('{"name":\n'), ["show", "track", "evaluate"], "line 2: not JSON"),
    (POLICY, key("parent", NAME), ["show", "show --dead", "track", "page", "arm", "evaluate"], "'parent'"),
    (PARENT, key("parent", NAME), ["show", "show --dead", "page", "arm"], "an ancestor of itself"),
    (POLICY, key("parent", None), ["show", "arm", "page"], "'parent': it cannot be None"),
    (POLICY, key("parent", ".."), ["show", "page"], "'parent': '..' is no name"),
    (POLICY, key("parent", "warmup"), ["page", "evaluate"], "'first_step': it is 3, and warmup ends with step 0"),
    (POLICY, key("steps", "many"), ["show", "track", "evaluate"], "'steps': Input should be a valid integer"),
    (POLICY, key("weights", ...), ["show", "evaluate", "ask"], "'weights' is missing"),
    (POLICY, key("params.policy", []), ["show", "track", "page"], "'params.policy'"),
    (PARENT, key("total_steps", 7), ["grpo", "show", "evaluate"], "'total_steps': it is 7, and 3 were taken"),
    (PARENT, key("generated_tokens", True), ["grpo", "show"], "'generated_tokens'"),
    (HISTORY, key("success", ..., 2), ["show", "track", "page", "evaluate"], "line 2: key 'success' is missing"),
    (HISTORY, key("regimes.strict.live", "low", 2), ["show", "page"], "line 2: key 'regimes.strict.live'"),
    (HISTORY, key("entropy", float("nan"), 1), ["show", "track", "evaluate"], "line 1: key 'entropy'"),
    (HISTORY, key("event", "party", 4), ["show", "track", "page"], "line 4: Input tag 'party'"),
    (HISTORY, put("[]\n"), ["show", "track", "page", "evaluate"], "line 1: Input should be an object"),
    (HISTORY, put(""), ["show", "track", "page", "evaluate"], "it ends with step 0"),
    (THROUGHPUT, key("seconds.update", "long", 2), ["track", "page", "arm"], "line 2: key 'seconds.update'"),
    (THROUGHPUT, key("tokens.thought", 8, 1), ["track", "page", "arm"], "line 1: key 'tokens"),
    (THROUGHPUT, put("{"), ["track", "page", "arm"], "line 1: not JSON"),
    (HISTORY, lines(lambda all: all[:2]), ["show", "page"], "line 2: it ends with step 2"),
    (HISTORY, lines(lambda all: [all[0], *all]), ["show", "evaluate"], "line 2: key 'step': it is 1, and 2 is due"),
    (HISTORY, lines(lambda all: [all[1], all[0], *all[2:]]), ["show"], "line 1: key 'step': it is 2, and 1 is due"),
    (HISTORY, lines(lambda all: [*all[:-1], all[-1][:-9]]), ["show", "track"], "line 4: not JSON"),
    (ROLLOUTS, key("fates", ..., 2), ["show --dead", "page"], "line 2: key 'fates' is missing"),
    (ROLLOUTS, key("completions.0.hits", [], 1), ["show --dead", "page"], "line 1: a completion has not as many"),
    (ROLLOUTS, key("completions.0.rewards", {}, 1), ["show --dead", "page"], "line 1: a completion's rewards are"),
    (DETAILS, key("strict_accuracy_interval", [1]), ["show", "track", "page", "arm"], "'strict_accuracy_interval'"),
    (DETAILS, key("dead/strict", "x"), ["show", "track", "page"], "'dead/strict'"),
    (DETAILS, key("policy", "warmup"), ["show", "arm"], "key 'policy': it is 'warmup', and 'lenient-strict' is due"),
    (SAMPLES, key("exact", "yes", 1), ["track", "page", "arm"], "line 1: key 'exact'"),
    (SAMPLES, put(""), ["track", "page", "arm"], "it is empty"),
    (CURVE, lines(lambda all: [all[0], all[1].replace("8", "x"), *all[2:]]), ["arm"], "line 2: key 'generated_tokens'"),
    (CURVE, lines(lambda all: [*all[:3], *all[2:]]), ["arm"], "line 4: key 'step': 2 after 2"),
    (CURVE, lines(lambda all: all[:1]), ["arm"], "it holds no row"),
    (ARMS, key("arms.0.switches", ...), ["compare", "track"], "'arms.0.switches' is missing"),
    (ARMS, key("arms", []), ["compare", "track"], "'arms'"),
    (TEST, key("answer", None, 2), ["export", "page", "evaluate"], "line 2: key 'answer'"),
    (TEST, key("answer_traditional", "一", 2), ["export", "evaluate"], "line 2: key 'answer_traditional': no ordered"),
    (TEST, key("answer", "一", 1), ["export", "page", "evaluate"], "line 1: key 'answer': no ordered_list"),
    (TEST, lines(lambda all: [*all, all[0]]), ["export", "evaluate"], "line 3: key 'id': 'q1' stands here twice"),
    (TEST, key("split", "train", 1), ["export", "evaluate"], "line 1: key 'split'"),
    (REPORT, key("baselines", []), ["export"], "'baselines'"),
    (REPORT, put('{"baselines": {"of set": {"most frequent answer": Infinity}}}'), ["export"], "a finite number"),
    (HISTORY, key("success", 0.9, 2), ["show", "track", "page"], "is not what"),
    (ROLLOUTS, key("completions.0.rewards.lenient", 0.9, 1), ["show --dead", "page"], "is not what"),
    ("policies/lenient-strict/model.safetensors", flipped, ["evaluate", "ask"], "is not what"),
    ("policies/lenient-strict/config.json", flipped, ["evaluate", "ask"], "is not what"),
    ("policies/lenient/model.safetensors", flipped, ["grpo"], "is not what"),
    ("policies/lenient/model.safetensors", Path.unlink, ["grpo"], "is not what"),
    (
        PARENT,
        key("weights", {"model.safetensors": 64 * "0"}),
        ["grpo"],
        "policies/lenient/model.safetensors is not what",
    ),
]
MADE_BY = {"questions": "dvc repro convert", "reports/compare": "make compare"}


@pytest.mark.parametrize(
    ("path", "damage", "command", "message"),
    [(path, damage, command, message) for path, damage, commands, message in DAMAGED for command in commands],
)
def test_what_is_damaged_is_named_with_what_makes_it_again(
    made: Path, refused: Callable[[str], str], path: str, damage: Damage, command: str, message: str
) -> None:
    damage(made / path)
    said = refused(command)
    assert message in said and path.removesuffix("policy.json") in said, said
    maker = next((made for place, made in MADE_BY.items() if path.startswith(place)), "python -m flows.curriculum ")
    assert maker in said, said


STRANGE = [
    (POLICY, folder, ["show", "track", "page", "evaluate", "ask"]),
    (POLICY, looped, ["show", "page", "evaluate", "ask", "track"]),
    (HISTORY, folder, ["show", "track", "page", "evaluate"]),
    (HISTORY, looped, ["show", "track", "page"]),
    (ROLLOUTS, folder, ["show --dead", "page"]),
    (THROUGHPUT, folder, ["track", "page", "arm"]),
    (THROUGHPUT, looped, ["track", "page", "arm"]),
    (POLICY, piped, ["show", "evaluate"]),
    (HISTORY, piped, ["show", "page"]),
    (TEST, piped, ["export"]),
    ("params/regimes.yaml", piped, ["grpo"]),
    (DETAILS, folder, ["show", "track", "page", "arm"]),
    (DETAILS, looped, ["show", "track"]),
    (SAMPLES, looped, ["track", "page", "arm"]),
    (CURVE, folder, ["arm"]),
    (ARMS, folder, ["compare", "track"]),
    (ARMS, looped, ["compare", "track"]),
    (TEST, folder, ["export", "page", "evaluate"]),
    (REPORT, looped, ["export"]),
    ("policies/lenient-strict", filed, ["show", "page", "evaluate"]),
    ("policies/lenient-strict", looped, ["show", "page", "evaluate"]),
    ("results/lenient-strict", filed, ["show", "page", "arm"]),
    ("policies", filed, ["show", "page", "evaluate", "grpo"]),
    ("questions", looped, ["export", "page"]),
]


@pytest.mark.parametrize(
    ("path", "change", "command"),
    [(path, change, command) for path, change, commands in STRANGE for command in commands],
)
def test_what_is_no_file_or_no_folder_is_named(
    made: Path, refused: Callable[[str], str], path: str, change: Damage, command: str
) -> None:
    change(made / path)
    said = refused(command)
    assert path in said and (command != "show" or "dvc" not in said) and "does not answer" not in said, said


@pytest.mark.parametrize("name", ["..", "a/b", 300 * "a", "a\0b"])
def test_a_policy_s_name_is_a_name(made: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit), shown_to_user():
        app(["show", name], standalone_mode=False)
    assert "is no name" in capsys.readouterr().err


def test_a_report_under_another_s_name_is_no_report_of_it(made: Path) -> None:
    """As after a copy, or a rename of a policy: the page would show one curriculum's course as another's."""
    course = Course.of("lenient", groups=2)
    course.write()
    assert Course.read("lenient") == course
    shutil.copy(made / "reports/courses/lenient.json", made / f"reports/courses/{NAME}.json")
    with pytest.raises(
        UserError, match=f"{NAME}.json: key 'name': it is 'lenient', and '{NAME}' is due.*dvc repro arm"
    ):
        Course.read(NAME)


def test_arms_of_other_questions_are_named_with_their_files(made: Path) -> None:
    write_arm(NAME, Selection(kinds=["element_values"]))
    arm = read_arm(NAME)
    other = arm.model_copy(update={"row": {**arm.row, "arm": "lenient"}, "right": {"q2": True}})
    with pytest.raises(
        UserError, match=r"reports/arms/.*json holds answers to other questions than reports/arms/.*json"
    ):
        compare([arm, other])


def test_what_is_whole_is_read_as_it_was_written(made: Path) -> None:
    assert line_of(NAME) == ["base", "warmup", "lenient", NAME]
    for name in line_of(NAME):
        verified(name)
        for rows, file in (
            (history_of(name), made / f"policies/{name}/history.jsonl"),
            (samples_of(name), made / f"results/{name}/samples.jsonl"),
        ):
            assert rows == [json.loads(line) for line in file.read_text().splitlines()]
        assert details_of(name) == json.loads((made / f"results/{name}/details.json").read_text())
    assert [len(history) for history in histories_of(NAME)] == [4, 4] and histories_of("warmup") == []
    assert len(rollouts_of(NAME)) == 2 and rollouts_of("warmup") == [] and len(curve_of(NAME)) == 6


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.EROFS, "Read-only file system", "policies/x"),
            "policies/x cannot be written or read here: Read-only",
        ),
        (OSError(errno.ENAMETOOLONG, "File name too long", 300 * "a"), "a: File name too long. Give it a shorter name"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "q"), "It links to itself"),
        (OSError(errno.EFBIG, "File too large"), "no disk space left (File too large)"),
        (OSError(errno.EUCLEAN, "Structure needs cleaning", "q"), "q: Structure needs cleaning. Look at what stands"),
        (sqlite3.OperationalError("disk I/O error"), "a database of DVC's or MLflow's (disk I/O error)"),
    ],
)
def test_errors_of_the_system_are_said_in_words(error: Exception, words: str) -> None:
    said = in_words(error)
    assert said and words in said[0] and said[0].startswith("error: ") and said[1] == 1 and len(said[0]) < 500


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError("of no file"), ConnectionResetError(104, "reset"), KeyError()]
)
def test_an_unknown_error_stays_one(error: Exception) -> None:
    assert in_words(error) is None


def test_a_folder_that_cannot_be_written_is_said_before_the_work(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere, and tests run as root too
    with pytest.raises(PermissionError, match="results"):
        tasks.evaluate.main(NAME)


@pytest.mark.parametrize("meta", ["null", "[]", "7", "{}", '{"own": "x"}', '{"own'])
def test_a_damaged_checkpoint_is_left_for_the_one_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], meta: str
) -> None:
    checkpoints = Checkpoints(tmp_path, "made from this")
    for step in (1, 2):
        checkpoints.save(step, {"weight": Whole([2], lambda: torch.ones(2))}, {})
    (tmp_path / "step-000002.json").write_text(meta)
    latest = checkpoints.latest()
    assert latest and latest.step == 1 and "step-000002.json is damaged" in capsys.readouterr().err

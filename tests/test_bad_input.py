"""Each mistake of a user's: a message with file and line or key, exit code 1, no traceback, outputs untouched."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import activated, edit, run
from forked import Forked

from tasks.__main__ import main
from upaya.errors import shown_to_user

GOOD = {"id": "a", "prompt": "五蘊有幾？", "answer": 5, "answer_type": "number", "split": "train", "source": "俱舍論"}


Refused = Callable[..., str]
OUTPUTS = ("questions", "policies", "results")


@pytest.fixture
def refused(unbuilt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """What a stage's program says when it refuses its input: run as `tasks/run` runs it, in this process (a process of
    its own for each would spend minutes on importing torch). What a former run has left stays as it was."""
    for folder in OUTPUTS:
        (unbuilt / folder / "lenient").mkdir(parents=True)
        (unbuilt / folder / "lenient/former").write_text("of a former run")

    def refuse(stage: str, *arguments: str) -> str:
        before = {path: path.read_bytes() for folder in OUTPUTS for path in files(unbuilt / folder)}
        monkeypatch.chdir(unbuilt)
        with pytest.raises(SystemExit) as ended, shown_to_user():
            main([stage, *arguments])
        message = "".join(capsys.readouterr())
        assert ended.value.code == 1, message
        assert {path: path.read_bytes() for folder in OUTPUTS for path in files(unbuilt / folder)} == before
        assert not list(unbuilt.rglob("*.partial"))
        return " ".join(message.split())

    return refuse


OWN = {"type": "jsonl", "files": "questions/*.jsonl"}


def own_questions(project: Path) -> Path:
    """A folder for questions of a user's own, beside the corpus's."""
    edit(project / "params/questions.yaml", "sources", "own", value=OWN)
    (project / "data/questions").mkdir()
    return project / "data/questions"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{**GOOD, "answer": None}], "line 1: column 'answer': the question has no answer"),
        ([{key: value for key, value in GOOD.items() if key != "answer"}], "line 1: no column 'answer'"),
        ([GOOD, {**GOOD, "prompt": "?"}], "line 2: the id 'a' stands already in"),
        ([{**GOOD, "answer_type": "numbr"}], "unknown answer type 'numbr'; did you mean 'number'?"),
        ([{**GOOD, "answer": "five"}], "the answer 'five' is no number"),
        ([GOOD, {**GOOD, "id": "b", "split": "test"}], "must not be trained on"),
        (["no json"], "line 1"),
    ],
)
def test_a_wrong_question(unbuilt: Path, refused: Refused, lines: list[object], message: str) -> None:
    folder = own_questions(unbuilt)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    (folder / "own.jsonl").write_text(text, encoding="utf-8")
    found = refused("convert")
    assert message in found and "own.jsonl" in found


def test_invalid_utf8(unbuilt: Path, refused: Refused) -> None:
    (own_questions(unbuilt) / "own.jsonl").write_bytes(b"{}\n\xff\xfe")
    assert "own.jsonl, line 2: invalid UTF-8" in refused("convert")


def test_an_empty_split(unbuilt: Path, refused: Refused) -> None:
    folder = own_questions(unbuilt)
    edit(unbuilt / "params/questions.yaml", "sources", value={"own": OWN})
    (folder / "own.jsonl").write_text(json.dumps({**GOOD, "split": "test"}, ensure_ascii=False))
    assert "the train split is empty" in refused("convert")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["policies", "lenient", "regime"], "leniant", "'policies.lenient.regime': unknown regime 'leniant'"),
        (["policies", "lenient", "from"], "warmap", "unknown parent policy 'warmap'; did you mean 'warmup'?"),
        (["policies", "lenient", "from"], "lenient-strict", "a cycle of parents"),
        (["policies", "lenient", "learning_rat"], 1, "did you mean 'learning_rate'?"),
        (["policies", "lenient", "learning_rate"], "fast", "'policies.lenient.learning_rate'"),
        (["policies", "lenient", "until"], {"type": "sucess_rate", "threshold": 0.1}, "did you mean 'success_rate'?"),
        (
            ["policies", "lenient", "until"],
            {"type": "live_share", "regime": "strickt", "threshold": 0.1},
            "'policies.lenient.until': unknown regime 'strickt'; did you mean 'strict'?",
        ),
        (
            ["policies", "lenient", "until"],
            {"type": "success_rate", "threshold": 0.1, "on": "validaton"},
            "'policies.lenient.until.on': input should be 'training' or 'validation' (it is 'validaton')",
        ),
        (["grpo", "validation"], {"evry": 2, "questions": 8}, "'grpo.validation.evry'; did you mean 'every'?"),
        (["grpo", "validation"], {"every": 0, "questions": 8}, "'grpo.validation.every'"),
        (["auto", "start_strict"], "strict-onli", "'auto.start_strict': unknown policy"),
        (["grpo", "loss"], {"type": "dpao"}, "'grpo.loss.type'"),
        (["grpo", "dead_groups"], {"type": "refil", "live": 4, "most_rounds": 2}, "did you mean 'refill'?"),
        (["grpo", "dead_groups"], {"type": "refill", "live": 99, "most_rounds": 2}, "2 rounds of 8 prompts hold 16"),
        (["compare"], ["lenient-stric"], "'compare': unknown policy 'lenient-stric'; did you mean 'lenient-strict'?"),
        (["policies", "auto"], {"from": "warmup", "regime": "strict", "learning_rate": 1}, "this name is taken"),
        (["model"], "tyni", "did you mean 'tiny'?"),
    ],
)
def test_a_wrong_curriculum(unbuilt: Path, refused: Refused, keys: list[str], value: object, message: str) -> None:
    edit(unbuilt / "params/curricula.yaml", *keys, value=value)
    assert message in refused("grpo", "lenient")


def test_a_hand_over_by_what_nothing_measures(unbuilt: Path, refused: Refused) -> None:
    until = {"type": "any", "of": [{"type": "success_rate", "threshold": 0.5, "on": "validation"}]}
    edit(unbuilt / "params/curricula.yaml", "policies", "lenient", "until", value=until)
    edit(unbuilt / "params/curricula.yaml", "grpo", "validation", value=None)
    said = refused("grpo", "lenient")
    assert "'policies.lenient.until': `on: validation` needs" in said and "under `grpo`" in said


def test_a_kind_that_no_question_is_of(project: Path) -> None:
    edit(project / "params/curricula.yaml", "questions", "kinds", value=["elemnt_values"])
    process = Forked(project, "grpo", "lenient")
    assert process.wait() == 1 and "did you mean 'element_values'?" in process.said(), process.said()


def test_a_learning_rate_that_blows_up(project: Path) -> None:
    edit(project / "params/curricula.yaml", "policies", "lenient", "learning_rate", value=1e30)
    before = {path: path.read_bytes() for folder in OUTPUTS for path in files(project / folder)}
    process = Forked(project, "grpo", "lenient")
    assert process.wait() == 1
    message = process.said()
    assert {path: path.read_bytes() for folder in OUTPUTS for path in files(project / folder)} == before
    assert re.search(r"lenient: step \d is not taken: the (loss|gradient's norm) is nan", message), message
    assert "smaller learning rate" in message


@pytest.mark.parametrize(("stage", "parent"), [(("grpo", "lenient"), "warmup"), (("evaluate", "lenient"), "lenient")])
def test_weights_with_a_flipped_bit_are_neither_trained_on_nor_evaluated(
    project: Path, stage: tuple[str, str], parent: str
) -> None:
    file = project / "policies" / parent / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    found = run("tasks/run", *stage, cwd=project, check=False)
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert f"policies/{parent}/model.safetensors is not what policies/{parent}/policy.json tells of" in found.stderr
    assert "dvc checkout --force" in found.stderr


def test_a_negative_weight(unbuilt: Path, refused: Refused) -> None:
    edit(unbuilt / "params/regimes.yaml", "regimes", "lenient", "components", "format", "weight", value=-1)
    assert "regimes.lenient.components.format.weight" in refused("grpo", "lenient")


def test_a_schedule_of_an_undeclared_regime(unbuilt: Path, refused: Refused) -> None:
    other = {"components": {"exact": {"weight": 3}}, "penalties": {"wrong": 1}, "floor": -1}
    edit(unbuilt / "params/regimes.yaml", "regimes", "annealed", "end", value=other)
    assert "regimes.yaml: regimes.annealed: a schedule is made of regimes that stand under" in refused(
        "grpo", "lenient"
    )


def test_a_regime_that_can_be_gamed(unbuilt: Path, refused: Refused) -> None:
    edit(unbuilt / "params/regimes.yaml", "regimes", "blind", value={"components": {"overlap": {"weight": 1}}})
    assert "key 'blind': a wrong completion earns as much" in refused("grpo", "lenient")


def test_a_model_path_that_does_not_exist(project: Path) -> None:
    (project / "params/models/mine.yaml").write_text("path: ./nowhere\n")
    edit(project / "params/curricula.yaml", "model", value="mine")
    process = Forked(project, "pretrain")
    assert process.wait() == 1 and "write `model_files: ./nowhere`" in process.said(), process.said()
    edit(project / "params/curricula.yaml", "model_files", value="./nowhere")
    process = Forked(project, "pretrain")
    assert process.wait() == 1 and "no model at 'nowhere'" in process.said(), process.said()


def test_a_program_of_its_own_says_the_same_and_ends_with_1(unbuilt: Path) -> None:
    edit(unbuilt / "params/curricula.yaml", "policies", "lenient", "regime", value="leniant")
    found = run("tasks/run", "grpo", "lenient", cwd=unbuilt, check=False)
    assert found.returncode == 1 and found.stderr.startswith(
        "error: params/curricula.yaml: key 'policies.lenient.regime'"
    )
    assert "Traceback" not in found.stdout + found.stderr


def test_no_disk_space(project: Path) -> None:
    limited = "trap '' XFSZ; ulimit -f 40; tasks/run convert"  # files of at most 40 blocks stand for a full disk
    found = subprocess.run(["bash", "-c", limited], cwd=project, env=activated(), capture_output=True, text=True)
    assert found.returncode == 1 and "Traceback" not in found.stderr, found.stderr
    assert "no disk space left" in found.stderr
    assert (project / "questions/test.jsonl").stat().st_size > 0 and not list(project.rglob("*.partial"))


def test_to_inherit_what_is_not_kept_is_refused(unbuilt: Path, refused: Refused) -> None:
    edit(unbuilt / "params/curricula.yaml", "policies", "lenient-strict", "optimiser", value="inherited")
    said = refused("grpo", "lenient-strict")
    assert "policies.lenient-strict.optimiser" in said and "give lenient `keep_optimiser: true`" in said
    edit(unbuilt / "params/curricula.yaml", "policies", "lenient", "optimiser", value="inherited")
    assert "only policies under `policies` keep theirs" in refused("grpo", "lenient")

"""Names become paths and words of a command line: whatever stands in params/, nothing outside its folder is touched."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, edit, run

from upaya.corpus.sources.rows import Row, entry
from upaya.declared.curricula import Curricula
from upaya.declared.questions import FileSource
from upaya.declared.regimes import RegimesFile
from upaya.declared.validation import validated
from upaya.errors import UserError
from upaya.files import remove_folder, replacing

HOSTILE = [
    "..",
    ".",
    "",
    "/tmp/elsewhere",
    "a/b",
    "a/../..",
    "$(touch PWNED)",
    "a b",
    "-rf",
    "a\n",
    "a\0",
    "寬",
    "x" * 65,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_policy_regime_model_or_question_has_such_a_name(name: str) -> None:
    curricula = yaml.safe_load((ROOT / "params/curricula.yaml").read_text())
    regimes = yaml.safe_load((ROOT / "params/regimes.yaml").read_text())
    strict = curricula["policies"]["strict-only"]
    question = {"prompt": "五蘊有幾？", "answer": 5, "answer_type": "number", "split": "train", "source": "俱舍論"}
    for model, declared, key in [
        (Curricula, {**curricula, "policies": {**curricula["policies"], name: strict}}, "policies."),
        (Curricula, {**curricula, "policies": {"a": {**strict, "from": name}}}, "policies.a.from"),
        (Curricula, {**curricula, "model": name}, "model"),
        (Curricula, {**curricula, "launch": name}, "launch"),
        (RegimesFile, {**regimes, "regimes": {**regimes["regimes"], name: regimes["regimes"]["strict"]}}, "regimes."),
    ]:
        with pytest.raises(UserError, match="is no name: a name begins with") as refused:
            validated(model, declared, "here")
        assert f"here: key '{key}" in str(refused.value)
    if name:  # a question without an id is given one
        with pytest.raises(UserError, match=r"here: column 'id': .* is no name: a name begins with"):
            entry(Row({**question, "id": name}, "here"), "mine", FileSource(type="jsonl", files="mine.jsonl"), "mine")


def test_a_command_in_a_policys_name_is_not_run(project: Path) -> None:
    """DVC itself reads params/ and starts the stage before any of the project's code sees the name."""
    path = project / "params/curricula.yaml"
    for name in ("$(touch PWNED)", "a'; touch PWNED; '", 'a"; touch PWNED; "', "a; touch PWNED"):
        edit(path, "policies", value={name: {"from": "warmup", "regime": "strict", "learning_rate": 1e-3}})
        edit(path, "compare", value=[])
        found = run("dvc", "repro", "--single-item", f"policy@{name}", cwd=project, check=False)
        assert found.returncode and "is no name" in found.stderr, found.stderr
        assert not list(project.rglob("PWNED*"))


def test_only_a_direct_child_of_its_folder_is_replaced_or_removed(tmp_path: Path) -> None:
    policies, outside = tmp_path / "policies", tmp_path / "outside"
    for folder in (policies / "kept", outside):
        folder.mkdir(parents=True)
        (folder / "file").write_text("kept")
    (policies / "link").symlink_to(outside)
    for name in ("..", ".", "", str(outside), "kept/..", "../outside", "link/file", "kept/deeper"):
        with (
            pytest.raises(UserError, match="neither replaced nor removed"),
            replacing(policies / name, within=policies),
        ):
            pass
        with pytest.raises(UserError, match="neither replaced nor removed"):
            remove_folder(policies / name, within=policies)
    with pytest.raises(UserError, match="is a folder where a file is to be written"), replacing(policies / "kept"):
        pass
    with replacing(policies / "link", within=policies) as partial:
        partial.mkdir()
    assert not (policies / "link").is_symlink() and (policies / "link").is_dir()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("file")} == {
        "policies/kept/file",
        "outside/file",
    }


def test_the_program_of_a_stage_takes_no_such_name(project: Path) -> None:
    def written() -> dict[str, int]:
        files = (path for path in project.rglob("*") if path.is_file() and path.suffix != ".pyc")
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = written()
    for name in ("..", str(project / "policies"), ""):
        for stage in ("grpo", "evaluate"):
            found = run("tasks/run", stage, name, cwd=project, check=False)
            assert found.returncode == 1 and "error: " in found.stderr and "Traceback" not in found.stderr, found.stderr
    assert written() == before
    assert json.loads((project / "policies/lenient/policy.json").read_text())["name"] == "lenient"

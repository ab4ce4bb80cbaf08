"""The pipeline in miniature, end to end, by the commands that a user types."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import edit, run
from prefect.states import State

from flows.curriculum import recommended
from tasks.dvc import _changed, _version, graph_to
from upaya.declared.curricula import load_curricula
from upaya.rewards.regimes import load_regimes

POLICIES = ("base", "warmup", "lenient", "lenient-strict")


@pytest.mark.parametrize("name", POLICIES)
def test_transformers_opens_every_policy(built: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = built / "policies" / name
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() > 0 and len(AutoTokenizer.from_pretrained(folder)) > 0
    origin = json.loads((folder / "policy.json").read_text())
    assert {"name", "parent", "regime", "seed", "steps", "total_steps", "made_from"} <= origin.keys()


def test_history_has_both_regimes_at_every_step_and_the_switch_is_recorded(built: Path) -> None:
    steps = []
    for name in ("lenient", "lenient-strict"):  # the last one's lines are looked at again below
        lines = (built / f"policies/{name}/history.jsonl").read_text().splitlines()
        steps += [record for record in map(json.loads, lines) if "event" not in record]
    assert [record["step"] for record in steps] == list(range(1, 11))
    for record in steps:
        for regime in ("lenient", "strict"):
            fates = record["regimes"][regime]
            assert fates["live"] + fates["dead_all_wrong"] + fates["dead_all_right"] == pytest.approx(1)
        assert sum(record["curriculum"]["weight"].values()) == pytest.approx(1)
        assert {"format", "positions", "exact"} <= record["components"].keys()
    events = [record for record in map(json.loads, lines) if record.get("event") == "switch"]
    assert [(event["from"], event["to"], event["step"]) for event in events] == [("lenient", "strict", 6)]
    assert events[0]["condition"]


def test_metrics_hold_what_is_asked_of_them(project: Path) -> None:
    details = json.loads((project / "results/lenient-strict/details.json").read_text())
    wanted = "strict_accuracy pass_at_1 pass_at_8 format_rate n_questions seed total_steps generated_tokens"
    assert set(wanted.split()) <= details.keys()
    assert details["total_steps"] == 10 and details["n_questions"] == 24
    assert details["contrast"] <= 1 - details["dead/strict"] + 1e-9  # right beside wrong is live under strict
    low, high = details["format_rate_interval"]
    assert low <= details["format_rate"] <= high
    metrics = json.loads((project / "results/lenient-strict/metrics.json").read_text())
    decides = "strict_accuracy strict_low strict_high pass_at_1 pass_at_8 format_rate success_at_end switch_step"
    assert list(metrics) == [*decides.split(), "generated_tokens", "seed"] and metrics["switch_step"] == 6
    others = "^(?!Experiment|Created|results/lenient-strict/metrics.json:).*"
    for command in (("metrics", "show"), ("exp", "show", "--drop", others)):
        found = run("dvc", *command, "--md", cwd=project).stdout
        assert len(found.splitlines()[0].split("|")) < 16, "a table that fits a screen"


def test_a_second_repro_runs_nothing(project: Path) -> None:
    assert "Running stage" not in run("dvc", "repro", cwd=project).stdout
    assert "up to date" in run("dvc", "status", cwd=project).stdout


def test_a_changed_strict_parameter_reruns_strict_and_what_follows(project: Path) -> None:
    edit(project / "params/curricula.yaml", "policies", "lenient-strict", "learning_rate", value=1e-5)
    assert set(json.loads(run("dvc", "status", "--json", cwd=project).stdout)) == {"policy@lenient-strict"}
    ran = run("dvc", "repro", "--dry", "--force", "--downstream", "policy@lenient-strict", cwd=project).stdout
    assert {line.split("'")[1] for line in ran.splitlines() if line.startswith("Running stage")} == {
        "policy@lenient-strict",
        "evaluate@lenient-strict",
        "arm@lenient-strict",
        "compare",
        "page@lenient-strict",
        "comparison-page",
    }


def test_what_is_measured_everywhere_is_a_part_of_every_history(project: Path) -> None:
    """DVC resolves the aliases by which `measured` and the schedules refer to the regimes."""
    path = project / "params/regimes.yaml"
    text = path.read_text()
    path.write_text(text.replace("{malformed: 1.0, wrong: 0.5}", "{malformed: 1.0, wrong: 0.6}"))
    everything = {"warmup", "policy@lenient", "policy@lenient-strict", "policy@scheduled", "evaluate@scheduled"}
    assert everything <= set(json.loads(run("dvc", "status", "--json", cwd=project).stdout))
    # A variant under a name of its own concerns those trained on it.
    path.write_text(
        text.replace("\n  # Schedules", "\n  strict-2: {components: {exact: {weight: 2.0}}}\n  # Schedules")
    )
    edit(project / "params/curricula.yaml", "policies", "lenient-strict", "regime", value="strict-2")
    assert set(json.loads(run("dvc", "status", "--json", cwd=project).stdout)) == {"policy@lenient-strict"}


def test_annealing_moves_the_weights_and_the_comparison_marks_the_switches(built: Path) -> None:
    lines = (built / "policies/scheduled/history.jsonl").read_text().splitlines()
    shares = [record["curriculum"]["weight"]["strict"] for record in map(json.loads, lines)]
    assert shares == sorted(shares) and shares[0] == 0 < shares[-1]
    arms = {arm["arm"]: arm for arm in json.loads((built / "reports/compare/arms.json").read_text())["arms"]}
    assert arms.keys() == {"lenient-strict", "scheduled"}
    assert arms["lenient-strict"]["switches"] == [{"step": 6.0, "to": "lenient → strict"}]
    assert len({arm["total_steps"] for arm in arms.values()}) == 1
    assert (built / "reports/compare/arms.png").stat().st_size > 10_000


def test_the_flow_follows_what_the_probe_recommends(project: Path, prefect_home: Path) -> None:
    path = project / "params/curricula.yaml"
    edit(path, "probe", "out_of_reach", value=1.0)  # the miniature has learnt next to nothing
    edit(path, "probe", "enough_live", value=0.01)
    found = run("python", "-m", "flows.curriculum", "auto", cwd=project, PREFECT_HOME=str(prefect_home))
    assert "auto: start lenient" in found.stdout and "auto: builds lenient" in found.stdout


def test_the_flow_builds_nothing_where_no_grpo_can_help(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project / "reports/probe/warmup.json"
    report = json.loads(path.read_text())
    report["recommendation"] = {"choice": "more pre-training", "text": "the base cannot say it"}
    path.write_text(json.dumps(report))
    monkeypatch.chdir(project)
    state = recommended(load_curricula(load_regimes()))
    assert isinstance(state, State) and state.is_failed() and "the base cannot say it" in (state.message or "")


def test_audit_and_probe_answer_on_the_command_line(project: Path) -> None:
    assert "degenerate completions earn" in run("upaya", "audit", cwd=project).stdout
    assert (project / "reports/audit/audit.png").exists()
    found = run("upaya", "probe", str(project / "policies/warmup"), cwd=project).stdout
    assert "recommendation:" in found


def test_a_hack_that_pays_too_much_fails_the_audit(project: Path) -> None:
    edit(project / "params/audit.yaml", "default", "ignorant", value=0.0)
    found = run("upaya", "audit", cwd=project, check=False)
    assert found.returncode == 1 and "'every item listed' earns" in " ".join(found.stdout.split())


def test_the_flow_finds_everything_current_and_shows_the_table(project: Path, prefect_home: Path) -> None:
    found = run(
        "python", "-m", "flows.curriculum", "lenient-strict", cwd=project,
        PREFECT_HOME=str(prefect_home), PYTHONPROFILEIMPORTTIME="1",
    )  # fmt: skip
    assert not re.search(r"\|\s+(torch|transformers)$", found.stderr, flags=re.MULTILINE), "a flow computes nothing"
    assert "lenient-saturating saturates: as much as a right answer earns" in " ".join(found.stdout.split())
    assert "Running stage" not in found.stdout
    for name in POLICIES:
        assert name in found.stdout
    assert "lenient → strict at" in " ".join(found.stdout.split())
    assert (found.stdout + found.stderr).count("Skipped") >= 9


def test_the_flow_sees_what_changes_while_it_is_at_work(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it reads DVC's files but once for as long as they stay the same."""
    monkeypatch.chdir(project)
    stages = {stage.address: stage for stage in graph_to(["evaluate@lenient"])}
    trained, evaluated = stages["policy@lenient"], stages["evaluate@lenient"]

    def seen() -> tuple[bool, bool]:
        return _changed(trained), _changed(evaluated)

    version = _version(trained)
    assert seen() == (False, False)
    policy, lock, audit = (project / name for name in ("policies/lenient/policy.json", "dvc.lock", "params/audit.yaml"))
    for changed, text, expected in (
        (project / "params/curricula.yaml", lambda text: text.replace("max_steps: 6", "max_steps: 5"), (True, False)),
        (policy, lambda text: text + " ", (True, True)),
        (audit, lambda text: text + " ", (False, False)),
        (lock, lambda text: text.replace("  policy@lenient:", "  policy@other:"), (True, False)),
    ):
        before = changed.read_text()
        changed.write_text(text(before))
        again = _version(trained)
        assert seen() == expected, changed
        changed.write_text(before)
        assert (again != version) == (changed.name == "curricula.yaml")
    assert seen() == (False, False) and _version(trained) == version


def test_an_unknown_policy_ends_the_flow_with_a_hint(project: Path, prefect_home: Path) -> None:
    found = run(
        "python", "-m", "flows.curriculum", "lenient-strickt", cwd=project, check=False,
        PREFECT_HOME=str(prefect_home),
    )  # fmt: skip
    assert found.returncode == 1
    assert "did you mean 'lenient-strict'" in found.stdout + found.stderr
    assert "server" not in found.stdout + found.stderr, "none is started to say so"
    assert "Traceback" not in found.stdout + found.stderr


def test_a_clean_clone_that_pulls_trains_nothing(project: Path, tmp_path: Path) -> None:
    for command in (
        ("dvc", "remote", "add", "-d", "store", str(tmp_path / "store")),
        ("git", "add", "-A"),
        ("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "built"),
        ("dvc", "push", "-q"),
        ("git", "clone", "-q", str(project), str(tmp_path / "clone")),
    ):
        run(*command, cwd=project)
    clone = tmp_path / "clone"
    run("dvc", "pull", "-q", cwd=clone)
    assert "up to date" in run("dvc", "status", cwd=clone).stdout
    assert "Running stage" not in run("dvc", "repro", cwd=clone).stdout
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    shutil.rmtree(clone / ".dvc/cache")
    shutil.rmtree(clone / "policies/lenient")
    found = run("dvc", "pull", "policies/lenient", cwd=clone, check=False)
    assert found.returncode and "policies/lenient" in found.stderr and "Traceback" not in found.stderr


def test_an_unreachable_mlflow_server_costs_a_warning(project: Path) -> None:
    found = run("tasks/run", "evaluate", "lenient", cwd=project, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "`upaya track` sends what is missing" in found.stderr and found.stderr.count("warning: MLflow") == 1

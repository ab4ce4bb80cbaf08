"""What is at work, what would run and why, what is wrong with a machine; experiments beside the checkout."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from conftest import LONG, edit, run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed
from test_interruption import started

from flows.curriculum import curriculum
from flows.experiments import changes, hydra, named, need_tracked
from flows.running import alone
from tasks.experiment import furthest, share_work
from tasks.mending import mended
from tasks.prefect_ui import need_server
from upaya.errors import UserError
from upaya.locks import hold, holder
from upaya.operating.doctor import of_another_version
from upaya.operating.status import trained
from upaya.paths import EXPERIMENTS, progress_file, work_lock
from upaya.terminal import Progress, Reached, reached

NOBODY = "http://127.0.0.1:9/api"


def test_status_of_a_checkout_that_is_current_and_plan_of_one_that_is_not(project: Path) -> None:
    said = run("upaya", "status", cwd=project).stdout
    assert "no flow is at work" in said and re.search(r"^\d+ stages current$", said, flags=re.MULTILINE)
    assert "nothing would run" in run("upaya", "plan", "lenient-strict", cwd=project).stdout
    edit(project / "params/curricula.yaml", "policies", "lenient-strict", "learning_rate", value=1e-5)
    said = run("upaya", "plan", "lenient-strict", cwd=project).stdout
    assert "params/curricula.yaml: policies.lenient-strict.learning_rate: 0.0005 → 1e-05" in said
    after = "only if what is below it comes out differently: policy@lenient-strict"
    assert re.search(rf"^evaluate@lenient-strict\n +{after}", said, flags=re.MULTILINE)
    assert "policy@lenient\n" not in said and "one-process" in said  # and what every launch needs in memory


def test_what_is_at_work_is_shown_and_stopped(project: Path) -> None:
    shutil.rmtree(project / "policies/lenient")
    process = started(project, "lenient", steps=1)
    found = run("upaya", "stop", cwd=project).stdout
    assert "stopped: lenient" in found and process.wait(LONG) == 128 + signal.SIGTERM
    assert "nothing is at work here" in run("upaya", "stop", cwd=project).stdout


def test_half_done_work_is_shown(project: Path) -> None:
    (project / ".upaya/work").mkdir(parents=True, exist_ok=True)
    with Progress("lenient", 6, file=project / ".upaya/work/lenient.progress") as progress:
        progress.advance("success 0.1")
    assert reached(project / ".upaya/work/lenient.progress")
    said = run("upaya", "status", cwd=project).stdout
    assert "lenient: half done, step 1 of 6  success 0.1" in said


def test_the_doctor_names_what_is_wrong_and_the_cure(project: Path) -> None:
    (project / ".dvc/tmp/rwlock").write_text("")
    edit(project / "params/curricula.yaml", "seed", value="one")
    found = run("upaya", "doctor", cwd=project, check=False, PREFECT_API_URL=NOBODY)
    assert found.returncode == 1 and "Traceback" not in found.stderr
    for wrong in (
        r"!!  .dvc/tmp/rwlock is in pieces.*\n +rm .dvc/tmp/rwlock",
        rf"!!  Prefect: {NOBODY} does not answer.*\n +`prefect server start`",
        r"!!  declared: params/curricula.yaml: key 'seed'.*\n +mend",
    ):
        assert re.search(wrong, found.stdout), found.stdout


def test_a_dvc_lock_file_in_pieces_is_removed_a_whole_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc/tmp/exps").mkdir(parents=True)
    broken, whole = tmp_path / ".dvc/tmp/exps/rwlock", tmp_path / ".dvc/tmp/rwlock"
    broken.write_text('{"read": {')
    whole.write_text('{"read": {}, "write": {}}')
    assert [said for said in mended() if "left in pieces" in said] and not broken.exists() and whole.exists()
    assert not [said for said in mended() if "left in pieces" in said]


def test_a_lock_is_held_by_the_living(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path, "it is being done"):
        assert holder(path)
        with pytest.raises(UserError, match=r"it is being done by process \d+ since .*; wait for it, or stop it: kill"):
            hold(path, "it is being done")
    assert holder(path) is None
    hold(path, "it is being done").close()


@pytest.mark.parametrize(
    ("value", "written"),
    [(7, "7"), (0.5, "0.5"), (None, "null"), (True, "true"), ("lenient", "lenient"), ("a b's", "'a b\\'s'"),
     ({"type": "refill", "live": 4}, "{type:refill,live:4}"), ([2, 4], "[2,4]")],
)  # fmt: skip
def test_values_as_dvc_reads_them(value: object, written: str) -> None:
    from flows.experiments import value_of

    assert hydra(value) == written and value_of("x", written) == value


def test_overrides_are_refused_before_anything_runs(unbuilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(unbuilt)
    assert changes(7, {"grpo.group_size": 16}) == [
        "params/curricula.yaml:++seed=7",
        "params/curricula.yaml:++grpo.group_size=16",
    ]
    assert named("lenient", 7, {}) == "lenient-seed-7" and named("lenient", None, {"a": 1}) != named(
        "lenient", None, {"a": 2}
    )
    for wrong, said in (
        ({"grpo.group_sze": 16}, "did you mean 'group_size'"),
        ({"grpo.prompts": "many"}, "key 'grpo.prompts'"),
        ({"gro.prompts": 1}, "has no key 'gro.prompts'"),
        ({"params/none.yaml:a": 1}, "expected FILE:KEY=VALUE"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            changes(None, wrong)


def test_prefects_form_offers_the_policies_there_are() -> None:
    asked = curriculum.parameters.model_dump()["properties"]
    assert {"lenient-strict", "strict-only", "auto"} <= set(asked["policy"]["enum"])
    assert all(asked[name]["description"] for name in ("policy", "seed", "overrides"))


def test_a_server_that_is_away_is_said_in_a_line(project: Path) -> None:
    found = run("python", "-m", "flows.curriculum", "lenient", cwd=project, check=False, PREFECT_API_URL=NOBODY)
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert f"Prefect's server at {NOBODY} does not answer" in found.stderr and "prefect server start" in found.stderr


class OfOld(BaseHTTPRequestHandler):
    """Answers as Prefect's server and MLflow's do, of a version that is long gone."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'"0.0.1"' if self.path.startswith("/api") else b"0.0.1")

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_server_of_another_version_is_said_and_no_reason_to_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), OfOld) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
            need_server()
        assert "is of version 0.0.1, this is" in capsys.readouterr().out
        assert of_another_version().startswith("; it is of version 0.0.1, this is ")
        server.shutdown()


def test_a_stage_of_an_experiment_works_in_the_checkout_so_that_it_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout, copy = tmp_path, tmp_path / ".dvc/tmp/exps/standalone/tmpabc"
    copy.mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    (checkout / "params").mkdir()
    (checkout / "params/mine.yaml").touch()
    monkeypatch.setenv("DVC_EXP_NAME", "of/mine")
    monkeypatch.chdir(checkout)
    share_work()
    assert not (checkout / ".upaya").exists()  # `dvc exp run` in the checkout itself
    monkeypatch.chdir(copy)
    share_work()
    shutil.rmtree(checkout / EXPERIMENTS / "of-mine")
    share_work()  # the next stage
    assert "git does not know params/mine.yaml: this experiment does without" in capsys.readouterr().out
    hold(work_lock("lenient"), "")
    progress_file("lenient").write_text('{"done": 3, "total": 9, "unit": "step", "note": ""}')
    monkeypatch.chdir(checkout)
    assert furthest("of/mine") == Reached(3, 9, "step", "")
    assert trained(EXPERIMENTS / "of-mine") == ["lenient"]


def test_what_a_killed_experiment_leaves_is_removed_but_for_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exps = tmp_path / ".dvc/tmp/exps"
    copy, other = exps / "standalone/tmpabc", exps / "tmpqueued"
    notes = {place: exps / f"run/{place.name}/{place.name}.run" for place in (copy, other)}
    for place, note in notes.items():
        place.mkdir(parents=True)
        note.parent.mkdir(parents=True)
        note.write_text(json.dumps({"root_dir": str(place), "status": 1}))
    kept, done = EXPERIMENTS / "a/lenient.progress", EXPERIMENTS / "b/lenient.lock"
    for file in (kept, done):
        file.parent.mkdir(parents=True)
        file.touch()
    for place in (copy, other):  # one of DVC's queue is at work between two stages: its work folder is empty
        busy = subprocess.Popen(["sleep", "60"], cwd=place)
        try:
            assert not mended() and copy.exists() and done.exists()
        finally:
            busy.kill()
            busy.wait()
    assert [said for said in mended() if "tmpabc): removed" in said]
    assert not copy.exists() and not notes[copy].exists() and other.exists() and notes[other].exists()
    assert kept.exists() and not done.exists()


def test_an_experiment_is_refused_where_dvc_would_do_without_a_file_or_fail(
    unbuilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(unbuilt)
    with pytest.raises(UserError, match="DVC's experiments fail in a folder whose path"):
        need_tracked()
    monkeypatch.chdir(unbuilt.rename(tmp_path / "plain"))
    need_tracked()
    Path("params/models/mine.yaml").write_text("a: 1\n")
    with pytest.raises(UserError, match=r"git does not know params/models/mine\.yaml"):
        need_tracked()


def test_another_seed_is_an_experiment_and_the_checkout_stays_as_it_is(
    project: Path, tmp_path: Path, prefect_home: Path
) -> None:
    project = project.rename(tmp_path / "plain")

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True, text=True).stdout

    git("config", "user.name", "t")
    git("config", "user.email", "t@t")
    git("add", "dvc.lock")
    git("commit", "-qm", "built")
    before = git("status", "--porcelain"), (project / "params/curricula.yaml").read_bytes()
    steps = "params/models/tiny.yaml:pretraining.steps=2"
    command = ["python", "-m", "flows.curriculum", "base", "--seed", "7", "--set", steps, "--set", "warmup.max_steps=2"]
    found = run(*command, cwd=project, PREFECT_HOME=str(prefect_home))
    name = re.search(r"`dvc exp apply (\S+)` takes it over", found.stdout)
    assert name and name[1].startswith("base-seed-7-") and f"{name[1]}: base: strict accuracy" in found.stdout
    assert (git("status", "--porcelain"), (project / "params/curricula.yaml").read_bytes()) == before
    shown = json.loads(run("dvc", "exp", "show", "--json", cwd=project).stdout)
    assert name[1] in json.dumps(shown)
    run("dvc", "exp", "apply", name[1], cwd=project)
    assert json.loads((project / "policies/base/policy.json").read_text())["steps"] == 2
    assert yaml.safe_load((project / "params/curricula.yaml").read_text())["warmup"]["max_steps"] == 2


@pytest.mark.parametrize("reason", [errno.EROFS, errno.EACCES])
def test_a_checkout_that_cannot_be_written_ends_a_flow_in_words(
    reason: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(reason, os.strerror(reason), ".upaya/flow.lock")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.running.hold", refused)
    state = alone(lambda: Completed())
    assert state.is_failed()
    assert capsys.readouterr().err.startswith(
        f"error: .upaya/flow.lock cannot be written or read here: {os.strerror(reason)}"
    )


def test_what_has_no_words_stays_a_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*arguments: object) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.running.hold", broken)
    with pytest.raises(OSError, match="Bad file descriptor"):
        alone(lambda: Completed())

"""Checkpoints are whole or absent, and bound to what they were made from."""

import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from upaya.errors import UserError
from upaya.training.steps.checkpoints import Checkpoints
from upaya.training.steps.history import History
from upaya.training.steps.tensors import Stored, Whole, write


def whole(tensor: torch.Tensor) -> Whole:
    return Whole(tensor.shape, lambda: tensor)


def saved(folder: Path, *steps: int, fingerprint: str = "f") -> Checkpoints:
    checkpoints = Checkpoints(folder, fingerprint)
    for step in steps:
        checkpoints.save(step, {"weights": whole(torch.full((50,), float(step)))}, {"seen": step})
    return checkpoints


def damage(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10, 20, 30)
    assert sorted(file.name for file in tmp_path.glob("*.json")) == ["step-000020.json", "step-000030.json"]
    found = checkpoints.latest()
    assert found and found.step == 30 and found.state == {"seen": 30} and found.tensors["weights"][0] == 30


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("how", ["gone", "cut", "one bit"])
def test_a_damaged_one_falls_back_to_the_one_before(
    tmp_path: Path, suffix: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    newest = tmp_path / f"step-000020{suffix}"
    damage(newest, how)
    found = checkpoints.latest()
    assert found and found.step == 10 and found.tensors["weights"][0] == 10
    if not (suffix == ".json" and how == "gone"):  # without its JSON a checkpoint was never there
        assert "is damaged" in capsys.readouterr().err
        assert not newest.exists()


def test_both_damaged_start_over_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    for step in (10, 20):
        damage(tmp_path / f"step-0000{step}.safetensors", "one bit")
    assert checkpoints.latest() is None
    assert "the stage starts over" in capsys.readouterr().err


def test_one_made_from_something_else_is_not_resumed_and_does_not_crowd_out_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, 300, 350, fingerprint="before")
    now = Checkpoints(tmp_path, "now")
    assert now.latest() is None
    assert "made from other inputs or parameters" in capsys.readouterr().err
    saved(tmp_path, 50, fingerprint="now")
    found = now.latest()
    assert found and found.step == 50


def test_tensors_written_one_after_the_other_are_the_file_that_safetensors_writes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    shapes: list[list[int]] = [[3, 5], [7], [], [2, 1, 4], [0], [50, 20]]
    tensors = {f"model.{9 - i}.名": torch.randn(shape) for i, shape in enumerate(shapes)} | {"a": torch.randn(2, 2).T}
    write(tmp_path / "ours", {name: whole(tensor) for name, tensor in tensors.items()})
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    stored = Stored(tmp_path / "ours")
    assert stored.keys() == tensors.keys() and "b" not in stored
    assert all(torch.equal(stored[name], tensor) for name, tensor in tensors.items())


def test_no_more_than_one_tensor_is_at_hand_at_a_time(tmp_path: Path) -> None:
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def gather(number: float) -> torch.Tensor:
        assert len(alive) <= 1  # the one before, until it is replaced
        alive.add(tensor := torch.full((100,), number))
        return tensor

    write(tmp_path / "file", {f"{i}": Whole([100], partial(gather, float(i))) for i in range(5)})
    assert Stored(tmp_path / "file")["3"][0] == 3


FULL = """
import resource, signal, sys, torch
from pathlib import Path
from upaya.errors import UserError
from upaya.training.steps.checkpoints import Checkpoints
from upaya.training.steps.history import History
from upaya.training.steps.tensors import Whole
from upaya.errors import shown_to_user
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # files of so many bytes at most stand for a full disk
with shown_to_user():
    Checkpoints(Path(sys.argv[1]), "f").save(20, {"weights": Whole([100_000], lambda: torch.zeros(100_000))}, {})
"""


def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10)
    found = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert found.returncode == 1 and found.stderr.startswith("error: no disk space left while writing")
    assert "Traceback" not in found.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["step-000010.json", "step-000010.safetensors"]
    kept = checkpoints.latest()
    assert kept and kept.step == 10


def test_a_history_that_lost_what_a_checkpoint_remembers_is_not_filled_up(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.append({"step": 1})
    with pytest.raises(UserError, match="not what its checkpoint remembers: it was changed or damaged"):
        history.resume({"bytes": 100, "sha256": ""})
    history.resume(None)
    assert history.state_dict()["bytes"] == 0 == history.path.stat().st_size


@pytest.mark.parametrize("how", ["gone", "cut", "flipped", "longer"])
def test_a_history_that_somebody_else_has_changed_is_neither_resumed_nor_published(tmp_path: Path, how: str) -> None:
    def changed(path: Path) -> None:
        if how == "longer":
            path.write_bytes(path.read_bytes() + b'{"step": 3}\n')
        else:
            damage(path, how)

    history = History(tmp_path / "history.jsonl")
    for step in (1, 2):
        history.append({"step": step, "loss": 0.123456789})
    state = history.state_dict()
    if how != "gone":  # a new process makes an empty one
        changed(history.path)
        again = History(history.path)
        if how == "longer":
            again.resume(state)  # what came after the checkpoint is forgotten
            again.close()
            changed(history.path)
        else:
            with pytest.raises(UserError, match="not what its checkpoint remembers"):
                again.resume(state)
    else:
        changed(history.path)
    with pytest.raises(UserError, match=r"history.jsonl: its content is not what was written.*Nothing is published"):
        history.close()

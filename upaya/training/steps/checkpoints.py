"""Checkpoints that are whole or absent, checksummed, and bound to the inputs they were made from."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from torch import Tensor

from upaya.declared.validation import validated
from upaya.errors import UserError
from upaya.files import fingerprint as fingerprint_of
from upaya.files import read_json, replacing, sha256_file, write_json
from upaya.training.steps import processes
from upaya.training.steps.tensors import Stored, Whole, write

KEPT = 2


class Checkpoint(NamedTuple):
    step: int
    tensors: Mapping[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The last checkpoints of one stage, each `step-N.safetensors` with `step-N.json` beside it.

    The JSON is written last and holds the tensors' checksum and its own: a checkpoint exists from that moment on. The
    fingerprint says what the stage was made from; a checkpoint with another one is never resumed.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint

    def save(self, step: int, tensors: Mapping[str, Whole], state: dict[str, Any]) -> None:
        """Write a checkpoint; of several processes the first does, and the others wait for it."""
        weights = (self.folder / f"step-{step:06d}").with_suffix(".safetensors")
        if processes.rank():
            write(weights, tensors)
        else:
            with replacing(weights) as partial:
                write(partial, tensors)
        with processes.first_alone():
            if processes.rank() == 0:
                self._save(step, weights, state)

    def _save(self, step: int, weights: Path, state: dict[str, Any]) -> None:
        name = weights.with_suffix("")
        meta = {"fingerprint": self.fingerprint, "step": step, "sha256": sha256_file(weights), "state": state}
        write_json(name.with_suffix(".json"), {**meta, "own": fingerprint_of(meta)})
        for old in sorted(self.folder.glob("step-*.json"))[:-KEPT]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """The steps whose checkpoints are on disk, ascending."""
        return sorted(int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.json"))

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole and was made from the same inputs; None where there is none.

        What cannot be resumed is removed, saying so: a damaged one, after which the one before it is taken, and one
        made from other inputs or parameters.
        """
        with processes.first_alone():
            return self._latest()

    def _latest(self) -> Checkpoint | None:
        checkpoints = sorted(self.folder.glob("step-*.json"), reverse=True)
        for path in checkpoints:
            weights = path.with_suffix(".safetensors")
            try:
                meta = validated(dict[str, Any], read_json(path), str(path))
                if meta.pop("own", None) != fingerprint_of(meta):
                    raise UserError("its own checksum differs")
                if meta["fingerprint"] == self.fingerprint:
                    if sha256_file(weights) != meta["sha256"]:
                        raise UserError("its weights' checksum differs")
                    return Checkpoint(meta["step"], Stored(weights), meta["state"])
                _say(f"checkpoint {path} was made from other inputs or parameters: removed")
            except (UserError, FileNotFoundError, SafetensorError) as error:
                _say(f"checkpoint {path} is damaged ({error}): removed, the one before it is taken")
            path.unlink(missing_ok=True)
            weights.unlink(missing_ok=True)
        if checkpoints:
            _say(f"no checkpoint is left in {self.folder}: the stage starts over")
        return None


def _say(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)

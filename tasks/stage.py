"""What the training stages share: where they work, what they are made from, how they publish a policy."""

import heapq
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from upaya.corpus.questions import Question
from upaya.declared.validation import load_yaml, read_yaml
from upaya.errors import UserError
from upaya.files import (
    fingerprint,
    need_child,
    need_writable,
    remove_folder,
    replacing,
    sha256_file,
    sha256_tree,
    write_json,
    write_text,
)
from upaya.locks import hold
from upaya.paths import (
    CURRICULA,
    HISTORY,
    LIBRARIES,
    ORIGIN,
    PIPELINE,
    POLICIES,
    ROLLOUTS,
    THROUGHPUT,
    TIMED,
    WORK,
    progress_file,
    work_lock,
)
from upaya.policy.adapters import merge_lora
from upaya.policy.model import Policy
from upaya.terminal import Progress, console
from upaya.tracking.told import training
from upaya.tracking.tracker import Tracker
from upaya.training.steps import processes
from upaya.training.steps.run import Run

LONGEST = 16  # completions, by characters, whose tokens are counted
MOMENTS_FILE = "optimiser.safetensors"


class Stage:
    """A stage at work: a folder of its own outside DVC's outputs, so that a killed run finds its checkpoints again.

    Attributes:
        hashes: what the stage is made from, by name; written to policy.json.
        fingerprint: one hash over them, to which checkpoints are bound. The launch is not among them: a stage that was
            stopped may go on in another number of processes.
    """

    def __init__(
        self, name: str, inputs: Mapping[str, Path], params: Mapping[str, Any], declared_as: str | None = None
    ) -> None:
        """Args: declared_as: the stage's name in dvc.yaml, where it is not `name`."""
        self.name = name
        self.params = params
        self.hashes = {key: sha256_tree(path) for key, path in inputs.items()}
        self.hashes["params"] = fingerprint(params)
        self.hashes["code"] = sha256_tree(*code_of(declared_as or name))
        self.hashes["libraries"] = fingerprint(load_yaml(LIBRARIES, dict[str, str]))
        self.fingerprint = fingerprint(self.hashes)
        self.work = WORK / name
        need_child(self.work, WORK)
        need_writable(POLICIES)
        need_writable(THROUGHPUT)
        self.work.mkdir(parents=True, exist_ok=True)
        # Of several processes the first writes. Kept open, and with it held, until this one ends.
        self._lock = None if processes.rank() else hold(work_lock(name), f"{name} is being trained")

    def tracker(self, parent: str | None = None, **tags: str) -> Tracker:
        """What tells MLflow while the stage goes on. Args: parent: the policy that it trains; None for a base."""
        told = training(self.name, parent, self.params, self.fingerprint, {"processes": str(processes.world()), **tags})
        return Tracker(told, sends=processes.rank() == 0)

    def progress(self, total: int) -> Progress:
        """Of so many steps, on the screen and for those who look from outside."""
        return Progress(self.name, total, file=None if processes.rank() else progress_file(self.name))

    def run(self, seed: int, zero: int, on_record: Callable[[dict[str, Any]], None], progress: Progress) -> Run:
        """What the training loop is given."""
        return Run(self.name, self.work, self.fingerprint, seed, on_record, zero, progress.resume)

    def publish(
        self,
        policy: Policy,
        provenance: Mapping[str, Any],
        moments: Mapping[str, Tensor] | None = None,
        *,
        merge: bool = False,
    ) -> Path:
        """policies/<name>: weights, config, tokenizer, history, rollouts, policy.json, in one step; the work is done.

        Where its time went stands in reports/throughput/<name>.jsonl. Of several processes the first writes.

        Args:
            merge: whether adapters are merged into the weights.
            moments: the optimiser's state, where children may inherit it.
        """
        folder = POLICIES / self.name
        if processes.rank():
            return folder
        if merge:
            merge_lora(policy.model)
        timed = self.work / TIMED
        write_text(THROUGHPUT / f"{self.name}.jsonl", timed.read_text() if timed.is_file() else "")
        with replacing(folder, within=POLICIES) as partial:
            partial.mkdir(parents=True)
            policy.save(partial, folder)
            (partial / HISTORY).touch()
            for file in (HISTORY, ROLLOUTS):
                if (self.work / file).exists():
                    shutil.copy(self.work / file, partial / file)
            if moments is not None:
                save_file({name: part.contiguous() for name, part in moments.items()}, partial / MOMENTS_FILE)
            hashes = {
                file.relative_to(partial).as_posix(): sha256_file(file)
                for file in sorted(partial.rglob("*"))
                if file.is_file()
            }
            weights = {name: digest for name, digest in hashes.items() if name.endswith(".safetensors")}
            files = {name: digest for name, digest in hashes.items() if name not in weights}
            made_by = {"processes": processes.world(), "threads": torch.get_num_threads()}
            made = {**made_by, "params": self.params, "made_from": self.hashes, "weights": weights, "files": files}
            write_json(partial / ORIGIN, {"name": self.name, **provenance, **made})
        remove_folder(self.work, within=WORK)
        progress_file(self.name).unlink(missing_ok=True)
        return folder


def say_what_is_too_long(name: str, policy: Policy, questions: Sequence[Question], tokens: int) -> None:
    """Print a question whose right completion is longer than completions are sampled: no sampled one can be right.

    Args:
        tokens: that a completion may have.
    """
    for question in heapq.nlargest(LONGEST, questions, key=lambda question: len(question.gold)):
        needed = len(policy.encode_completion(question.gold))
        if needed > tokens:
            console.print(
                f"{name}: the right completion of {question.id} takes {needed} tokens, and `sampling.max_new_tokens` "
                f"is {tokens}: nothing that is sampled can be right there. Raise it in {CURRICULA}",
                markup=False,
            )
            return


def moments_of(policy: str) -> dict[str, Tensor]:
    """The optimiser's state that a policy was published with. Raises UserError where it was published without."""
    file = POLICIES / policy / MOMENTS_FILE
    if not file.is_file():
        raise UserError(f"{file} is missing: {policy} was made without `keep_optimiser: true`")
    return load_file(file)


def code_of(stage: str) -> list[Path]:
    """The code that a stage depends on, as dvc.yaml lists it: what DVC retrains for, and nothing else."""
    declared = read_yaml(PIPELINE)["stages"][stage]
    deps = [str(dep) for dep in declared.get("do", declared)["deps"]]
    return [Path(dep) for dep in deps if dep.split("/")[0] in ("upaya", "tasks", "components")]

"""Random weights in a shape, taken through the real stages in a scratch clone, and the memory that these took.

    python -m bench.scratch SHAPE FOLDER     # a model's folder: random weights, and a tokenizer trained on the corpus

Every completion of random weights is wrong, and a group whose rewards are all equal is not learnt from: the clone has a
reward component of its own, which tells any two completions apart.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.heap import HANDED_BACK
from upaya.errors import UserError
from upaya.files import read_json, read_text
from upaya.operating.changing import changed, new
from upaya.paths import CURRICULA, LAUNCHES, MODELS, QUESTIONS, REGIMES

NAME = "measured"  # of the model and the launch in the clone
VOCABULARY = 1536  # of the tokenizer, whatever the model has beyond it
COMPONENT = '''"""Tells completions apart, for weights that know nothing."""

import zlib


def varied(completion, question):
    return 1.0 if completion.text == question.gold else zlib.crc32(completion.text.encode()) / 2**33
'''


@dataclass(frozen=True)
class Peak:
    """What a stage took. Attributes: memory: bytes of the largest of its processes at its peak; seconds: of it all."""

    memory: float
    seconds: float


@dataclass(frozen=True)
class Setting:
    """A model and what is done with it.

    Attributes:
        shape: of a transformers configuration.
        handling: of the model's file: dtype, lora, gradient_checkpointing.
        launch: of the launch's file.
        warmup, grpo, sampling: what differs in these parts of params/curricula.yaml, one level deep.
    """

    shape: Mapping[str, Any]
    handling: Mapping[str, Any] = field(default_factory=dict)
    launch: Mapping[str, Any] = field(default_factory=dict)
    warmup: Mapping[str, Any] = field(default_factory=dict)
    grpo: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)


def clone(folder: Path) -> Path:
    """This checkout's last commit in a folder, with the questions that were built here."""
    if not QUESTIONS.is_dir():
        raise UserError(f"no {QUESTIONS}/: the bench takes its prompts and tokenizer from it; `make run`")
    project = folder / "project"
    subprocess.run(["git", "clone", "--quiet", ".", str(project)], check=True)
    shutil.copytree(QUESTIONS, project / QUESTIONS)
    (project / "components" / "varied.py").write_text(COMPONENT)
    return project


def declare(project: Path, setting: Setting) -> None:
    """Write a setting into the clone's params/, and its model; what an earlier one made is gone."""
    for made in ("policies", ".upaya"):
        shutil.rmtree(project / made, ignore_errors=True)
    folder = project / "models" / NAME
    written = {**setting.shape, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    if not folder.is_dir() or read_json(folder / "made_as.json") != written:
        shutil.rmtree(folder, ignore_errors=True)
        run(project, "-m", "bench.scratch", json.dumps(written), str(folder))

    def curricula(params: Any) -> None:
        params.update(model=NAME, model_files=f"models/{NAME}", launch=NAME)
        # torch's attention in bfloat16 fails where its kernels are held to AVX2 on a processor that has more.
        mode = "native" if setting.handling.get("dtype") == "bfloat16" else "avx2"
        params["numerics"] = {"mode": mode, "threads": 1}
        params["warmup"] |= {"max_steps": 2, **setting.warmup}
        params["grpo"] |= {"budget": 2, **setting.grpo}
        params["sampling"] |= setting.sampling

    def regimes(params: Any) -> None:
        lenient = params["regimes"]["lenient"]  # of which others are made too
        lenient["components"] = {"components.varied.varied": {"weight": 1.0}}
        lenient["credit"] = "completion"
        del lenient["entropy"]

    subprocess.run(["git", "checkout", "--quiet", "--", "params"], cwd=project, check=True)
    texts = {
        CURRICULA: changed(project / CURRICULA, curricula),
        REGIMES: changed(project / REGIMES, regimes),
        MODELS / f"{NAME}.yaml": new({"path": f"models/{NAME}", **setting.handling}),
        LAUNCHES / f"{NAME}.yaml": new({"processes": 1, **setting.launch}),
    }
    for path, text in texts.items():
        (project / path).write_text(text)


def stages(project: Path, on_stage: Callable[[str, Peak], None] = lambda stage, peak: None) -> dict[str, Peak]:
    """Take the declared model through warm-up and GRPO, each in processes of its own."""
    run(project, "-m", "tasks", "pretrain")
    found = {}
    for stage in ("warmup", "grpo"):
        found[stage] = run(project, "-m", "tasks", *([stage] if stage == "warmup" else [stage, "lenient"]))
        on_stage(stage, found[stage])
    return found


def run(project: Path, *arguments: str) -> Peak:
    """A program of the clone. Raises UserError with what it said where it fails.

    A process that is started counts the memory of the one that starts it, up to then: this one is to stay small, and
    imports no torch. Memory is handed back at once, as a stage does where it is tight: else there is no telling.
    """
    env = os.environ | HANDED_BACK
    env |= {"PYTHONPATH": str(project), "MLFLOW_TRACKING_URI": "", "OMP_NUM_THREADS": "1"}
    begun, said = time.monotonic(), project.parent / "said"
    with said.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=project, env=env, stdout=out, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"{' '.join(arguments)} failed:\n{read_text(said)[-3000:]}")
    return Peak(usage.ru_maxrss * 1024.0, time.monotonic() - begun)


def make(shape: dict[str, Any], folder: Path) -> None:
    """Random weights in a shape, in bfloat16, with a tokenizer that knows the corpus."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from upaya.training.sft.from_scratch import train_tokenizer

    tokenizer = train_tokenizer(read_text(QUESTIONS / "text.txt").splitlines(), VOCABULARY)
    settings = {"vocab_size": len(tokenizer), **shape}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = AutoConfig.for_model(settings.pop("model_type"), **settings, **ids)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "made_as.json").write_text(json.dumps(shape))


if __name__ == "__main__":
    make(json.loads(sys.argv[1]), Path(sys.argv[2]))

"""Two real processes under DeepSpeed's launcher (gloo), every stage of ZeRO, against one process."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import real_models
import several
import torch
from conftest import activated
from transformers import AutoModelForCausalLM

from tasks.launch import launcher_command, worker_environment
from upaya.declared.launch import Launch
from upaya.training.completions.micro_batches import micro_batches, share

ZERO = range(4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Any]:
    """The records of one process, and its policy."""
    return several.way(tmp_path_factory.mktemp("alone"), 0)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have left what they saw."""
    folder = tmp_path_factory.mktemp("together")
    real_models.make(folder / "model")
    launch = Launch(processes=2, threads=1)
    found = subprocess.run(
        launcher_command(launch, str(Path(several.__file__)), str(folder)),
        env=activated(PYTHONPATH=str(Path(several.__file__).parents[1]), **worker_environment(launch)),
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    return folder


def updates(records: list[dict[str, Any]]) -> list[list[float]]:
    return [[r["update"][key] for key in ("loss", "grad_norm", "live_groups")] for r in records if r.get("update")]


def drawn(records: list[dict[str, Any]]) -> list[int]:
    return [record["generated_tokens"] for record in records if "generated_tokens" in record]


@pytest.mark.parametrize("zero", ZERO)
def test_processes_see_what_one_sees(alone: tuple[list[dict[str, Any]], Any], together: Path, zero: int) -> None:
    one, half = alone[0], json.loads((together / f"zero-{zero}.json").read_text())
    sft = [record["loss"] for record in one if "loss" in record]
    assert [record["loss"] for record in half if "loss" in record] == pytest.approx(sft, rel=1e-4)
    assert len(sft) == several.PRETRAINING.steps + several.WARMUP.max_steps
    assert drawn(half) == drawn(one)[: several.HALF]  # the same completions
    assert [r["validation"] for r in half if "trained" in r] == [r["validation"] for r in one if "trained" in r][
        : several.HALF
    ]
    assert [r["trained"] for r in half if "trained" in r] == [r["trained"] for r in one if "trained" in r][
        : several.HALF
    ]
    assert [x for u in updates(half) for x in u] == pytest.approx([x for u in updates(one)[:2] for x in u], rel=2e-3)
    assert updates(half)[0][0] != 0


@pytest.mark.parametrize("zero", ZERO)
def test_a_checkpoint_is_resumed_under_another_stage(
    alone: tuple[list[dict[str, Any]], Any], together: Path, zero: int
) -> None:
    rest = json.loads((together / f"rest-{zero}.json").read_text())
    assert [record["step"] for record in rest] == [3, 4]  # nothing of what was done is done again
    assert drawn(rest) == drawn(alone[0])[several.HALF :]
    expected = [x for u in updates(alone[0])[2:] for x in u]
    assert [x for u in updates(rest) for x in u] == pytest.approx(expected, rel=1e-2)
    saved = AutoModelForCausalLM.from_pretrained(together / f"policy-{zero}")  # the plain layout, whatever made it
    for ours, theirs in zip(saved.parameters(), alone[1].model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("zero", [2, 3])
def test_adapters_beside_frozen_weights(together: Path, zero: int) -> None:
    norms, policy = several.adapted(together / "model", 0)
    assert json.loads((together / f"norms-{zero}.json").read_text()) == pytest.approx(norms, rel=2e-2)
    merged, ours = (
        AutoModelForCausalLM.from_pretrained(together / f"adapted-{zero}"),
        dict(policy.model.named_parameters()),
    )
    for name, parameter in merged.named_parameters():
        assert torch.allclose(parameter.float(), ours[name].float(), atol=1e-2)


def test_a_batch_is_shared_out_evenly_and_wholly(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [5, 1, 9, 9, 2, 7, 3, 3, 30, 1, 1, 1]
    rows = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11]
    monkeypatch.setattr("upaya.training.steps.processes.world", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr("upaya.training.steps.processes.rank", lambda rank=rank: rank)
        shares.append(share(rows, lengths))
    assert [row for part in shares for row in part] == rows
    tokens = [sum(lengths[row] for row in part) for part in shares]
    assert max(tokens) - min(tokens) <= max(lengths[row] for row in rows)


def test_a_process_with_nothing_left_makes_passes_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upaya.training.steps.processes.gathered", lambda value: [value, 3])
    found = list(micro_batches([4, 5], [9] * 6, range(6), [2] * 6, budget=100))
    assert found == [([4, 5], True), ([4], False), ([4], False)]

"""The optimiser's state over a switch: inherited or fresh."""

from dataclasses import replace
from pathlib import Path

import pytest
import several
import torch

from tasks.stage import MOMENTS_FILE, Stage, moments_of
from upaya.errors import UserError
from upaya.policy.model import Policy
from upaya.training.grpo.loop import GrpoSettings, Outcome, train
from upaya.training.steps.run import Run

SETTINGS = GrpoSettings(
    regime="lenient", reward=several.LENIENT["lenient"], scored=several.LENIENT, learning_rate=1e-3, first_step=0,
    last_step=4, until=None, sampling=several.SAMPLING, grpo=several.GRPO, keep_moments=True,
)  # fmt: skip


def trained(policy: Policy, settings: GrpoSettings, work: Path) -> Outcome:
    work.mkdir()
    return train(policy, several.QUESTIONS, settings, Run("own", work, "same", 1, lambda record: None, 0))


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Policy, Outcome]:
    """A policy after the first half of its steps, with its optimiser's state."""
    policy = several.start()
    return policy, trained(policy, replace(SETTINGS, last_step=2), tmp_path / "first")


def weights(policy: Policy) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in policy.model.parameters()])


def test_two_stages_with_one_optimiser_are_one_stage(halves: tuple[Policy, Outcome], tmp_path: Path) -> None:
    whole, (policy, first) = several.start(), halves
    trained(whole, SETTINGS, tmp_path / "whole")
    second = replace(SETTINGS, first_step=2, moments=first.moments, generated_tokens=first.generated_tokens)
    trained(policy, second, tmp_path / "second")
    assert torch.equal(weights(policy), weights(whole))


def test_a_fresh_optimiser_goes_another_way(halves: tuple[Policy, Outcome], tmp_path: Path) -> None:
    whole, (policy, _) = several.start(), halves
    trained(whole, SETTINGS, tmp_path / "whole")
    trained(policy, replace(SETTINGS, first_step=2), tmp_path / "second")
    assert not torch.equal(weights(policy), weights(whole))


def test_it_is_published_with_the_policy_where_it_is_kept(
    halves: tuple[Policy, Outcome], unbuilt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(unbuilt)
    policy, outcome = halves
    assert outcome.moments
    Stage("warmup", {}, {}).publish(policy, {}, outcome.moments)
    assert moments_of("warmup").keys() == outcome.moments.keys()
    assert all(torch.equal(part, outcome.moments[name]) for name, part in moments_of("warmup").items())
    Stage("warmup", {}, {}).publish(policy, {})
    assert not (unbuilt / "policies/warmup" / MOMENTS_FILE).exists()
    with pytest.raises(UserError, match="made without `keep_optimiser: true`"):
        moments_of("warmup")

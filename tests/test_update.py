"""One update: what it learns from, how it is cut, and what it refuses."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from upaya.declared.grpo import DeadGroups, Drop, Grpo, Refill, Scale
from upaya.declared.sampling import SamplingParams
from upaya.errors import UserError
from upaya.policy.model import Policy, compile_layers
from upaya.sampling.decoding import Rollouts, sample
from upaya.training.grpo import update as updates
from upaya.training.grpo.batch import Batch
from upaya.training.grpo.credit import Earned
from upaya.training.grpo.update import Update, update
from upaya.training.sft.from_scratch import from_config, train_tokenizer
from upaya.training.steps.engine import Engine

SAMPLING = SamplingParams(max_new_tokens=10)
LINES = ["眼界，有见／无见者，无见。", "色界，有见／无见者，有见。"] * 5
PROMPTS = ["眼界", "色界，有见／无见？", "依次作答：无见、有对。"]
LIVE, DEAD = [1.0, 0.0, 0.0, 0.5], [0.3, 0.3, 0.3, 0.3]


class Gradients(Engine):
    """An engine that keeps the gradients of each step instead of taking it."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy, learning_rate=0.1, max_grad_norm=1e9)
        self.taken: list[list[Tensor]] = []
        self.scales: list[float] = []

    def step(self, scale: float = 1.0) -> float:
        self.scales.append(scale)
        self.taken.append([p.grad.clone() for p in self.policy.model.parameters() if p.grad is not None])
        self.optimiser.zero_grad()
        return 0.0


def grpo(**settings: object) -> Grpo:
    common = {"budget": 1, "prompts": 3, "group_size": 4, "max_grad_norm": 1.0, "tokens_per_micro_batch": 10_000}
    return Grpo.model_validate({**common, "checkpoint_every": 1, **settings})


@pytest.fixture(scope="module")
def policy() -> Policy:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.3}  # fmt: skip
    return from_config({"model_type": "llama", **sizes}, train_tokenizer(LINES, 400), seed=1)


@pytest.fixture(scope="module")
def rollouts(policy: Policy) -> list[Rollouts]:
    """One group of four completions for each prompt."""
    return [
        sample(policy, [policy.encode_prompt(prompt)], 4, SAMPLING, seed=1, step=0, prompt_indices=[i])
        for i, prompt in enumerate(PROMPTS)
    ]


def batch_of(parts: list[Rollouts], rewards: list[list[float]], dead: DeadGroups | None = None) -> Batch:
    batch = Batch(dead or Drop(type="drop"))
    for i, (part, reward) in enumerate(zip(parts, rewards, strict=True)):
        batch.add(part, Earned.as_a_whole(torch.tensor([reward], dtype=torch.float64)), [f"question-{i}"])
    return batch


def gradients(policy: Policy, batch: Batch, **settings: object) -> list[list[Tensor]]:
    engine = Gradients(policy)
    assert update(policy, engine, batch, grpo(**settings), SAMPLING)
    return engine.taken


def equal(ours: list[Tensor], theirs: list[Tensor], factor: float = 1.0) -> bool:
    return all(torch.allclose(a, factor * b, rtol=1e-4, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_joined_rollouts_are_the_groups_one_after_the_other(rollouts: list[Rollouts]) -> None:
    joined = Rollouts.joined(rollouts)
    for i, part in enumerate(rollouts):
        assert joined.prompts[i] == part.prompts[0]
        for g, length in enumerate(part.lengths_PG[0].tolist()):
            assert torch.equal(joined.tokens_PGT[i, g, :length], part.tokens_PGT[0, g, :length])
            assert torch.equal(joined.logprobs_PGT[i, g, :length], part.logprobs_PGT[0, g, :length])


@pytest.mark.parametrize("kind", ["dapo", "grpo", "dr_grpo", "gspo", "cispo", "bnpo"])
def test_dead_groups_change_nothing_unless_they_are_counted(
    policy: Policy, rollouts: list[Rollouts], kind: str
) -> None:
    alone = gradients(policy, batch_of(rollouts[:2], [LIVE, LIVE[::-1]]), loss={"type": kind})[0]
    beside = batch_of(rollouts, [LIVE, LIVE[::-1], DEAD])
    assert equal(gradients(policy, beside, loss={"type": kind})[0], alone)
    lengths = beside.rollouts.lengths_PG
    diluted = 2 / 3 if kind in ("grpo", "dr_grpo", "gspo") else (lengths[:2].sum() / lengths.sum()).item()
    counted = gradients(policy, beside, loss={"type": kind, "dead_groups_count": True})[0]
    assert equal(counted, alone, factor=diluted)


@pytest.mark.parametrize("enough", [100.0, 4.3])
def test_entropy_adds_its_gradient_to_that_of_the_rewards(
    policy: Policy, rollouts: list[Rollouts], enough: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against autograd through whole passes, completion by completion; a token that is open enough adds nothing."""
    monkeypatch.setattr(updates, "OPEN", enough)
    part, batch = rollouts[1], batch_of(rollouts[1:2], [LIVE])
    plain = gradients(policy, batch)[0]
    batch.earnings = [replace(batch.earned, entropy_PK=torch.tensor([[0.2]], dtype=torch.float64))]
    found = gradients(policy, batch, tokens_per_micro_batch=60)[0]
    done = update(policy, Gradients(policy), batch, grpo(tokens_per_micro_batch=60), SAMPLING)
    begin, total = len(part.prompts[0]), int(part.lengths_PG.sum())
    worth = 0.0
    for g, length in enumerate(part.lengths_PG[0].tolist()):
        row = torch.tensor([part.prompts[0] + part.tokens_PGT[0, g, :length].tolist()])
        logprobs = policy.model(input_ids=row).logits[0, begin - 1 : -1].log_softmax(-1)
        entropies = -(logprobs.exp() * logprobs).sum(-1)
        assert enough == 100 or len((entropies < enough).unique()) == 2, "tokens on both sides"
        less = -0.2 * entropies.clamp(max=enough).sum() / total
        less.backward()
        worth -= less.item()
    wanted = [p.grad.clone() for p in policy.model.parameters() if p.grad is not None]
    policy.model.zero_grad()
    assert any(each.abs().max() > 1e-4 for each in wanted)
    assert equal([a - b for a, b in zip(found, plain, strict=True)], wanted)
    assert done and done.entropy_bonus == pytest.approx(worth, rel=1e-4)


def test_bfloat16_points_the_same_way(policy: Policy, rollouts: list[Rollouts]) -> None:
    batch = batch_of(rollouts, [LIVE, LIVE[::-1], LIVE])
    full, half = (
        torch.cat([part.flatten() for part in gradients(policy, batch, precision=precision)[0]])
        for precision in ("float32", "bfloat16")
    )
    assert torch.cosine_similarity(full, half, dim=0) > 0.99 and not torch.equal(full, half)


@pytest.mark.training
def test_compiled_layers_give_the_same_gradient(policy: Policy, rollouts: list[Rollouts]) -> None:
    batch = batch_of(rollouts, [LIVE, LIVE[::-1], LIVE])
    compiled = copy.deepcopy(policy)
    compile_layers(compiled.model, backend="aot_eager")  # traced as for inductor, without its C++ compiler
    assert equal(gradients(compiled, batch)[0], gradients(policy, batch)[0])


def test_an_all_dead_batch_is_no_update(policy: Policy, rollouts: list[Rollouts]) -> None:
    assert update(policy, Gradients(policy), batch_of(rollouts[:1], [DEAD]), grpo(), SAMPLING) is None


def test_micro_batches_do_not_change_the_gradient(policy: Policy, rollouts: list[Rollouts]) -> None:
    batch = batch_of(rollouts, [LIVE, LIVE[::-1], LIVE])
    whole = gradients(policy, batch, loss={"type": "grpo"})
    assert equal(gradients(policy, batch, loss={"type": "grpo"}, tokens_per_micro_batch=1)[0], whole[0])


def test_truncated_completions_are_masked_when_asked(policy: Policy, rollouts: list[Rollouts]) -> None:
    parts = [copy.copy(part) for part in rollouts[:2]]
    parts[1].finished_PG = torch.zeros(1, 4, dtype=torch.bool)
    alone = gradients(policy, batch_of(parts[:1], [LIVE]))[0]
    parts[0].finished_PG = torch.ones(1, 4, dtype=torch.bool)
    masked = gradients(policy, batch_of(parts, [LIVE, LIVE]), loss={"mask_truncated": True})[0]
    assert equal(masked, alone)


def test_mini_batches_and_iterations_are_optimiser_steps(policy: Policy, rollouts: list[Rollouts]) -> None:
    batch = batch_of(rollouts, [LIVE, DEAD, LIVE[::-1]])
    taken = gradients(policy, batch, mini_batches=2, iterations=3)
    assert len(taken) == 6
    whole = gradients(policy, batch)[0]
    # The parts of a batch weigh as in the whole; two steps on halves are each twice the whole's share.
    assert equal([a + b for a, b in zip(taken[0], taken[1], strict=True)], whole, factor=2)


def test_a_second_iteration_moves_off_policy_and_clips(policy: Policy, rollouts: list[Rollouts]) -> None:
    moved = copy.deepcopy(policy)
    engine = Engine(moved, learning_rate=0.05, max_grad_norm=1e9)
    made = update(moved, engine, batch_of(rollouts, [LIVE] * 3), grpo(iterations=3), SAMPLING)
    assert isinstance(made, Update) and made.clipped > 0


def test_the_divergence_from_a_reference_is_none_at_first_and_grows(policy: Policy, rollouts: list[Rollouts]) -> None:
    moved = copy.deepcopy(policy)
    engine = Engine(moved, learning_rate=0.01, max_grad_norm=1e9)
    batch, settings = batch_of(rollouts, [LIVE] * 3), grpo(loss={"kl": 0.1})
    first = update(moved, engine, batch, settings, SAMPLING, reference=policy)
    second = update(moved, engine, batch, settings, SAMPLING, reference=policy)
    assert first and second and first.kl == pytest.approx(0, abs=1e-9) and (second.kl or 0) > 1e-6


def test_scale_shrinks_the_step_with_the_live_share(policy: Policy, rollouts: list[Rollouts]) -> None:
    def moved_by(dead: DeadGroups) -> Tensor:
        mine = copy.deepcopy(policy)
        engine = Engine(mine, learning_rate=0.01, max_grad_norm=1e9)
        update(mine, engine, batch_of(rollouts, [LIVE, DEAD, DEAD], dead), grpo(), SAMPLING)
        return mine.model.get_input_embeddings().weight - policy.model.get_input_embeddings().weight

    full, scaled = moved_by(Drop(type="drop")), moved_by(Scale(type="scale"))
    assert full.abs().max() > 1e-3 and torch.allclose(scaled, full / 3, atol=1e-6)


def test_a_refill_waits_for_live_groups_up_to_its_cap(rollouts: list[Rollouts]) -> None:
    refill = Refill(type="refill", live=2, most_rounds=3)
    assert not batch_of(rollouts[:1], [LIVE], refill).is_ready
    enough = batch_of(rollouts[:2], [LIVE, LIVE], refill)
    assert enough.is_ready and enough.shortage is None
    short = batch_of(rollouts, [LIVE, DEAD, DEAD], refill)
    assert short.is_ready and short.shortage == "1 of 2 live groups after 3 prompts"


def test_a_loss_that_is_not_finite_stops_the_step_and_names_the_questions(
    policy: Policy, rollouts: list[Rollouts]
) -> None:
    broken = copy.deepcopy(policy)
    broken.model.get_input_embeddings().weight.data[:] = float("nan")
    engine = Engine(broken, learning_rate=0.1, max_grad_norm=1.0)
    with pytest.raises(UserError, match="the loss is nan on the completions of question-0"):
        update(broken, engine, batch_of(rollouts[:1], [LIVE]), grpo(), SAMPLING)
    assert not engine.optimiser.state


def test_a_gradient_that_is_not_finite_is_not_stepped_on(policy: Policy) -> None:
    mine = copy.deepcopy(policy)
    engine = Engine(mine, learning_rate=0.1, max_grad_norm=1.0)
    (mine.model.get_input_embeddings().weight.sum() * float("inf")).backward()
    with pytest.raises(UserError, match="the gradient's norm is"):
        engine.step()
    for before, after in zip(policy.model.parameters(), mine.model.parameters(), strict=True):
        assert torch.equal(before, after)


def test_a_refill_that_can_never_succeed_is_refused() -> None:
    with pytest.raises(ValueError, match="hold 6"):
        grpo(dead_groups={"type": "refill", "live": 7, "most_rounds": 2})


def shifted(parts: list[Rollouts], nats: float) -> list[Rollouts]:
    """As a sampler notes them whose kernels round otherwise: every log-probability lower by so many nats."""
    return [replace(part, logprobs_PGT=part.logprobs_PGT - nats) for part in parts]


def test_what_sampler_and_update_round_differently_is_measured(policy: Policy, rollouts: list[Rollouts]) -> None:
    for nats in (0.0, 0.5):
        done = update(
            policy, Gradients(policy), batch_of(shifted(rollouts, nats), [LIVE, LIVE, DEAD]), grpo(), SAMPLING
        )
        assert done and done.mismatch == pytest.approx(nats, abs=1e-5)


@pytest.mark.parametrize("settings", [{"iterations": 2}, {"mini_batches": 2}])
def test_recomputed_ratios_begin_at_one_whatever_the_sampler_noted(
    policy: Policy, rollouts: list[Rollouts], settings: dict[str, object]
) -> None:
    """Where no step moves the policy, every one of them has the gradient that the sampler's own figures give."""
    own, other = (batch_of(parts, [LIVE, LIVE[::-1], DEAD]) for parts in (rollouts, shifted(rollouts, 0.5)))
    wanted = gradients(policy, own, **settings)
    assert not all(map(equal, gradients(policy, other, **settings), wanted)), "clipped for what nobody did"
    recomputed = gradients(policy, other, **settings, rollout_correction={"type": "recompute"})
    assert len(recomputed) == len(wanted) == 2 and all(map(equal, recomputed, wanted))


@pytest.mark.parametrize("settings", [{}, {"iterations": 2}])
@pytest.mark.parametrize(("cap", "weight"), [(2.0, math.exp(0.5)), (1.2, 1.2)])
def test_a_truncated_weight_is_the_ratio_up_to_its_cap(
    policy: Policy, rollouts: list[Rollouts], settings: dict[str, object], cap: float, weight: float
) -> None:
    plain = gradients(policy, batch_of(rollouts, [LIVE, LIVE, DEAD]))[0]
    other = batch_of(shifted(rollouts, 0.5), [LIVE, LIVE, DEAD])
    for found in gradients(policy, other, **settings, rollout_correction={"type": "truncate", "cap": cap}):
        assert equal(found, plain, factor=weight)

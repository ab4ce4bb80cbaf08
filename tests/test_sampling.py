import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from upaya.declared.sampling import GREEDY, SamplingParams
from upaya.policy.model import Policy
from upaya.sampling import decoding
from upaya.sampling.decoding import Rollouts, draw, sample, truncated
from upaya.sampling.philox import Stream, uniforms
from upaya.sampling.shared_prefix import Fixed, SharedPrefixLayer
from upaya.training.completions.logprobs import chosen_logprobs, completion_logprobs
from upaya.training.sft.from_scratch import from_config, train_tokenizer

LINES = ["眼界，有见／无见者，无见。", "色界，有见／无见者，有见。", "依次作答：无见、有对、善及不善。"] * 5
ARCHITECTURES = {
    "llama": {"model_type": "llama"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 8},
}
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module", params=ARCHITECTURES)
def policy(request: pytest.FixtureRequest) -> Policy:
    return from_config({**SIZES, **ARCHITECTURES[request.param]}, train_tokenizer(LINES, 400), seed=1)


@pytest.fixture(scope="module")
def prompts(policy: Policy) -> list[list[int]]:
    return [policy.encode_prompt(text) for text in ("眼界", "色界，有见／无见？", "依次作答：无见、有对。")]


def logprobs_of(policy: Policy, prompts: list[list[int]], rollouts: Rollouts) -> torch.Tensor:
    """The log-probabilities of G completions for each prompt: [P, G, T]."""
    P, G, T = rollouts.tokens_PGT.shape
    lengths = rollouts.lengths_PG.flatten()
    found, _ = completion_logprobs(
        policy, prompts, torch.arange(P).repeat_interleave(G), rollouts.tokens_PGT.flatten(0, 1), lengths
    )
    return found.view(P, G, T)


def test_greedy_decoding_is_transformers_generate(policy: Policy, prompts: list[list[int]]) -> None:
    ours = sample(policy, prompts, 1, GREEDY, seed=0, step=0, prompt_indices=range(3))
    for prompt, tokens, length in zip(prompts, ours.tokens_PGT[:, 0], ours.lengths_PG[:, 0], strict=True):
        theirs = policy.model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False,
            max_new_tokens=GREEDY.max_new_tokens, pad_token_id=policy.pad_id,
        )  # fmt: skip
        assert theirs[0, len(prompt) :].tolist() == tokens[:length].tolist()


def test_what_is_sampled_does_not_depend_on_the_batch(policy: Policy, prompts: list[list[int]]) -> None:
    params = SamplingParams(max_new_tokens=12)
    together = sample(policy, prompts, 4, params, seed=3, step=5, prompt_indices=[7, 8, 9])
    for i, prompt in enumerate(prompts):
        alone = sample(policy, [prompt], 4, params, seed=3, step=5, prompt_indices=[7 + i])
        width = alone.tokens_PGT.shape[2]
        assert torch.equal(alone.tokens_PGT[0], together.tokens_PGT[i, :, :width])
    narrow = sample(policy, prompts, 4, params, seed=3, step=5, prompt_indices=[7, 8, 9], rows_at_once=4)
    assert torch.equal(narrow.tokens_PGT, together.tokens_PGT)


def test_logprobs_kept_from_sampling_are_those_of_a_second_pass(policy: Policy, prompts: list[list[int]]) -> None:
    rollouts = sample(policy, prompts, 4, SamplingParams(max_new_tokens=12), seed=1, step=0, prompt_indices=range(3))
    mask = torch.arange(rollouts.tokens_PGT.shape[2]) < rollouts.lengths_PG[..., None]
    again = logprobs_of(policy, prompts, rollouts)
    assert torch.allclose(again[mask], rollouts.logprobs_PGT[mask], atol=2e-5)


def test_shared_prompts_give_the_gradient_of_full_passes(policy: Policy, prompts: list[list[int]]) -> None:
    rollouts = sample(policy, prompts, 2, SamplingParams(max_new_tokens=6), seed=2, step=0, prompt_indices=range(3))
    mask = torch.arange(rollouts.tokens_PGT.shape[2]) < rollouts.lengths_PG[..., None]

    def gradients(total: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(total, list(policy.model.parameters()), allow_unused=True))

    shared = gradients((logprobs_of(policy, prompts, rollouts) * mask).sum())
    total = torch.zeros(())
    for p, prompt in enumerate(prompts):
        for g in range(2):
            tokens = rollouts.tokens_PGT[p, g, : rollouts.lengths_PG[p, g]]
            row = torch.cat([torch.tensor(prompt), tokens])[None]
            logits = policy.model(row).logits[0, len(prompt) - 1 : -1]
            total = total + torch.log_softmax(logits, -1).gather(1, tokens[:, None]).sum()
    for ours, full in zip(shared, gradients(total), strict=True):
        assert torch.allclose(ours, full, atol=1e-4, rtol=1e-4)


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2, 0.0]).log()
    uniform = torch.from_numpy(uniforms(1, 2, [3], 1, 20_000)[0, 0])
    tokens, logprobs, _, dropped = draw(logits.expand(20_000, -1), uniform, SamplingParams())
    assert torch.bincount(tokens, minlength=4).div(20_000).tolist() == pytest.approx([0.5, 0.3, 0.2, 0.0], abs=0.015)
    assert torch.allclose(logprobs, logits[tokens]) and (dropped == 0).all()


@pytest.mark.parametrize("limits", [{"top_k": 2}, {"top_p": 0.75}, {"min_p": 0.5}])
def test_truncation_leaves_the_likely_tokens_only(limits: dict[str, float]) -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(1000, -1)
    uniform = torch.from_numpy(uniforms(1, 0, [0], 1, 1000)[0, 0])
    tokens, logprobs, _, dropped = draw(logits, uniform, SamplingParams(**limits))
    assert set(tokens.tolist()) == {0, 1}
    assert torch.allclose(logprobs, logits[0][tokens] - math.log(0.8))  # of the distribution drawn from
    assert torch.allclose(dropped, torch.tensor(0.2))


def test_random_numbers_stand_for_themselves() -> None:
    many = uniforms(1, 2, [3, 4], 4, 10)
    assert (many[0, 2, :5] == uniforms(1, 2, [3], 3, 5)[0, 2]).all()
    assert len(np.unique(np.concatenate([many, uniforms(1, 3, [3, 4], 4, 10), uniforms(2, 2, [3, 4], 4, 10)]))) == 240


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(1, 9))
def test_random_numbers_are_those_of_numpys_philox(seed: int, step: int, prompt: int, length: int) -> None:
    for sample_index, row in enumerate(uniforms(seed, step, [prompt], 2, length)[0]):
        bits = np.random.Philox(
            key=np.array([seed, step], np.uint64), counter=np.array([0, 0, sample_index, prompt], np.uint64)
        )
        assert (row == np.random.Generator(bits).random(length)).all()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_chosen_logprobs_are_log_softmax_and_gather(temperature: float) -> None:
    logits = torch.randn(600, 50, dtype=torch.float32, generator=torch.Generator().manual_seed(1))
    tokens, weights = torch.arange(600) % 50, torch.linspace(-1, 1, 600)
    plain = logits.clone().requires_grad_()
    expected = torch.log_softmax(plain / temperature, dim=-1).gather(1, tokens[:, None])[:, 0]
    (expected * weights).sum().backward()
    ours = logits.clone().requires_grad_()
    found, unasked = chosen_logprobs(ours * 1, tokens, SamplingParams(temperature=temperature))
    (found * weights).sum().backward()
    assert torch.allclose(found, expected, atol=1e-5) and not unasked.any()
    assert plain.grad is not None and ours.grad is not None and torch.allclose(ours.grad, plain.grad, atol=1e-6)


@pytest.mark.parametrize("limits", [{}, {"top_k": 7}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 20, "min_p": 0.05}])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_gradient_is_that_of_the_distribution_sampled_from(limits: dict[str, float], temperature: float) -> None:
    """Against autograd through softmax, truncation and renormalisation written out."""
    sampling = SamplingParams(temperature=temperature, **limits)
    logits = torch.randn(600, 50, dtype=torch.float32, generator=torch.Generator().manual_seed(1))
    tokens = draw(logits, torch.linspace(0, 0.999, 600), sampling)[0]
    weights = torch.linspace(-1, 1, 600)
    plain = logits.clone().requires_grad_()
    probabilities = (plain / temperature).softmax(-1)
    left = probabilities * (truncated(probabilities.detach(), sampling) > 0)
    left = left / left.sum(-1, keepdim=True)
    expected = left.gather(1, tokens[:, None])[:, 0].log()
    spread = -torch.xlogy(left, left.masked_fill(left == 0, 1)).sum(-1)
    (expected * weights + spread * weights.flip(0)).sum().backward()
    ours = logits.clone().requires_grad_()
    found, entropies = chosen_logprobs(ours * 1, tokens, sampling, entropies=True)
    (found * weights + entropies * weights.flip(0)).sum().backward()
    assert torch.allclose(found, expected, atol=1e-5) and torch.allclose(entropies, spread, atol=1e-5)
    assert torch.allclose(found, draw(logits, torch.linspace(0, 0.999, 600), sampling)[1], atol=1e-5)
    assert plain.grad is not None and ours.grad is not None and torch.allclose(ours.grad, plain.grad, atol=1e-6)


def test_streams_have_no_number_in_common() -> None:
    drawn = [uniforms(1, 0, [0, 1], 4, 10, stream) for stream in Stream]
    assert len(np.unique(np.concatenate(drawn))) == 80 * len(Stream)


def test_rows_leave_and_prompts_with_them() -> None:
    """A cache from which rows and a whole prompt are taken attends as one that never held them."""
    tokenizer = train_tokenizer(LINES, 400)
    policy = from_config({**SIZES, "model_type": "llama"}, tokenizer, seed=1)
    prompts = [policy.encode_prompt(text) for text in ("眼界", "色界，有见／无见？", "依次作答：无见、有对。")]
    ends = [token for token in range(0, 400, 3) if token != policy.pad_id]  # a third of what is sampled ends a row
    assert policy.model.generation_config
    policy.model.generation_config.eos_token_id = ends
    rollouts = sample(policy, prompts, 8, SamplingParams(max_new_tokens=12), seed=1, step=0, prompt_indices=range(3))
    assert rollouts.lengths_PG.unique().numel() > 3
    mask = torch.arange(rollouts.tokens_PGT.shape[2]) < rollouts.lengths_PG[..., None]
    again = logprobs_of(policy, prompts, rollouts)
    assert torch.allclose(again[mask], rollouts.logprobs_PGT[mask], atol=2e-5)


def test_sums_over_repeated_places_have_a_fixed_order() -> None:
    """The places that predict a group's first tokens are one and the same; two threads must not race to them."""
    assert torch.are_deterministic_algorithms_enabled()


def test_recorded_steps_say_the_same(policy: Policy, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where steps of fixed shapes are recorded: rows leave, and the places they read grow."""
    params = SamplingParams(max_new_tokens=40)
    plain = sample(policy, prompts, 4, params, seed=3, step=1, prompt_indices=range(3))
    monkeypatch.setattr(decoding, "records", lambda device: True)
    monkeypatch.setattr(decoding, "FEWEST_PLACES", 4)
    fixed = sample(policy, prompts, 4, params, seed=3, step=1, prompt_indices=range(3))
    assert len(set(plain.lengths_PG.flatten().tolist())) > 1
    assert torch.equal(plain.tokens_PGT, fixed.tokens_PGT)
    assert torch.allclose(plain.logprobs_PGT, fixed.logprobs_PGT, atol=1e-5)


def test_a_recorded_step_counts_all_that_it_reads() -> None:
    """By which a model whose attention has a window is refused."""
    layer = SharedPrefixLayer(16)
    layer.prompt_keys = torch.zeros(1, 2, 5, 4)
    assert layer.get_seq_length() == 5
    layer.fixed = Fixed(torch.tensor([3]), span=8)
    assert layer.get_seq_length() == 13

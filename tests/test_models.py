"""Models as they come from a hub: chat templates, end tokens, padded vocabularies, adapters, and what is refused."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import real_models
import several
import torch
import yaml
from conftest import edit
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from upaya.corpus.answers import parse
from upaya.declared.model import Handling, Lora
from upaya.declared.sampling import GREEDY, SamplingParams
from upaya.errors import UserError
from upaya.policy.adapters import add_lora, merge_lora
from upaya.policy.model import Policy, Room, load
from upaya.sampling.decoding import sample
from upaya.training.completions.logprobs import completion_logprobs
from upaya.training.sft.from_scratch import from_config, train_tokenizer
from upaya.training.sft.pretraining import pretrain
from upaya.training.steps.engine import Engine
from upaya.training.steps.run import Run
from upaya.training.steps.tensors import at_hand

GOLD = "<think>眼界</think><answer>无见</answer>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_models.make(tmp_path_factory.mktemp("model") / "own")


@pytest.fixture
def policy(folder: Path) -> Policy:
    return load(folder, Handling(system_prompt="只答其值。"))


def logprobs_of(policy: Policy, prompt: list[int], tokens: list[int]) -> torch.Tensor:
    lengths = torch.tensor([len(tokens)])
    return completion_logprobs(policy, [prompt], torch.tensor([0]), torch.tensor([tokens]), lengths)[0][0]


def test_prompts_go_through_the_chat_template_with_the_system_prompt(policy: Policy) -> None:
    said = policy.tokenizer.decode(policy.encode_prompt("眼界？"))
    assert said == (
        "<|im_start|>system\n只答其值。<|im_end|>\n<|im_start|>user\n眼界？<|im_end|>\n<|im_start|>assistant\n"
    )


def test_every_declared_end_token_ends_a_completion(policy: Policy) -> None:
    ends = [policy.tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|im_end|>")]
    assert policy.eos_ids == ends
    prompts = [policy.encode_prompt("眼界？" * n) for n in (1, 2, 5)]
    with torch.no_grad():  # make both likely enough to be drawn
        policy.model.get_input_embeddings().weight[ends] *= 3
    drawn = sample(policy, prompts, 32, SamplingParams(max_new_tokens=60), seed=1, step=0, prompt_indices=range(3))
    last = drawn.tokens_PGT.gather(2, drawn.lengths_PG[:, :, None] - 1)[:, :, 0]
    assert set(last[drawn.finished_PG].tolist()) == set(ends)
    assert not torch.isin(last[~drawn.finished_PG], torch.tensor(ends)).any()


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "llama", "mistral", "olmo2"])
def test_greedy_decoding_is_transformers_generate(tmp_path: Path, model_type: str) -> None:
    policy = load(real_models.make(tmp_path / "model", model_type), Handling())
    prompts = [policy.encode_prompt("眼界，有见／无见？" * n) for n in (1, 2, 4)]
    ours = sample(policy, prompts, 1, GREEDY, seed=0, step=0, prompt_indices=range(3))
    for prompt, tokens, length in zip(prompts, ours.tokens_PGT[:, 0], ours.lengths_PG[:, 0], strict=True):
        theirs = policy.model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False,
            max_new_tokens=GREEDY.max_new_tokens, eos_token_id=policy.eos_ids, pad_token_id=policy.pad_id,
        )  # fmt: skip
        assert theirs[0, len(prompt) :].tolist() == tokens[:length].tolist()


def test_ids_beyond_the_tokenizer_have_no_probability(policy: Policy) -> None:
    known = len(policy.tokenizer)
    assert policy.model.config.vocab_size == known + real_models.PADDED
    prompt = policy.encode_prompt("眼界？")
    with torch.no_grad():  # untrained rows, and likelier than all others
        policy.model.get_input_embeddings().weight[known:] *= 30
    drawn = sample(policy, [prompt], 16, SamplingParams(max_new_tokens=20), seed=1, step=0, prompt_indices=[0])
    assert int(drawn.tokens_PGT.max()) < known
    assert torch.isfinite(drawn.entropies_PGT).all()
    tokens = drawn.tokens_PGT[0, 0, : drawn.lengths_PG[0, 0]].tolist()
    found = logprobs_of(policy, prompt, tokens)
    assert torch.allclose(found, drawn.logprobs_PGT[0, 0, : len(tokens)], atol=1e-4)
    found.sum().backward()
    gradients = [p.grad for p in policy.model.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_backward_pass_makes_no_copy_of_the_logits(policy: Policy) -> None:
    """A large model's are gigabytes; the gradient is written into their own memory, of padded vocabularies too."""
    tokens = list(range(300, 800))
    found = logprobs_of(policy, policy.encode_prompt("眼界？"), tokens)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        found.sum().backward()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = profiler.profiler.kineto_results.events()
    made = [event.nbytes() for event in events if event.name() == "[memory]"]
    assert 0 < max(made) < 4 * len(tokens) * policy.model.config.vocab_size / 2


@pytest.mark.parametrize(
    ("template", "opening", "taught"),
    [
        (real_models.TEMPLATE, "", GOLD),
        (real_models.THINKING, "<think>", GOLD.removeprefix("<think>")),
        (real_models.CLOSED, "<think>\n\n</think>", "<answer>无见</answer>"),
    ],
)
def test_what_the_template_opens_belongs_to_the_completion(
    tmp_path: Path, template: str, opening: str, taught: str
) -> None:
    policy = load(real_models.make(tmp_path / "model", template=template), Handling())
    tokens = policy.encode_completion(GOLD)
    assert policy.tokenizer.decode(tokens) == f"{taught}<|im_end|>"
    assert policy.decode(tokens) == opening + taught
    assert parse(policy.decode(tokens)).well_formed
    assert policy.tokenizer.decode(policy.encode_prompt("问")).rstrip().endswith(opening or "assistant")


def test_a_special_token_inside_a_completion_is_text(policy: Policy) -> None:
    tokens = policy.tokenizer(f"{GOLD}<|im_start|>")["input_ids"]
    assert policy.decode([*tokens, policy.eos_ids[0]]) == f"{GOLD}<|im_start|>"
    assert not parse(policy.decode(tokens)).well_formed


def test_bfloat16_weights_learn_what_they_cannot_show(tmp_path: Path) -> None:
    policy = load(real_models.make(tmp_path / "model"), Handling(dtype="bfloat16"))
    engine = Engine(policy, learning_rate=1e-4, max_grad_norm=1.0)
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    prompt, tokens = policy.encode_prompt("眼界？"), policy.encode_completion(GOLD)
    losses = []
    for _ in range(30):  # a step of 1e-4 is lost in a weight of 0.2 with eight bits
        loss = -logprobs_of(policy, prompt, tokens).mean()
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, engine.masters[name].bfloat16())
    moved = [name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])]
    assert moved
    again = Engine(load(tmp_path / "model", Handling(dtype="bfloat16")), learning_rate=1e-4, max_grad_norm=1.0)
    again.load_tensors(at_hand(engine.tensors()))
    assert all(torch.equal(again.masters[name], master) for name, master in engine.masters.items())


def test_gradient_checkpointing_changes_memory_and_nothing_else(folder: Path) -> None:
    found = []
    for checkpointing in (False, True):
        policy = load(folder, Handling(gradient_checkpointing=checkpointing))
        policy.model.train()
        logprobs_of(policy, policy.encode_prompt("眼界？"), policy.encode_completion(GOLD)).sum().backward()
        found.append([p.grad for p in policy.model.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_are_trained_alone_and_published(
    folder: Path, tmp_path: Path, checkpointing: bool, merge: bool
) -> None:
    policy = load(folder, Handling(gradient_checkpointing=checkpointing))
    plain = load(folder, Handling())
    add_lora(policy.model, Lora(rank=4, alpha=8), seed=1)
    prompt, tokens = policy.encode_prompt("眼界？"), policy.encode_completion(GOLD)
    assert torch.allclose(logprobs_of(policy, prompt, tokens), logprobs_of(plain, prompt, tokens), atol=1e-5)
    engine = Engine(policy, learning_rate=1e-2, max_grad_norm=1.0)
    assert engine.trained and all("lora_" in name for name in engine.trained)
    policy.model.train()
    for _ in range(5):
        engine.backward(-logprobs_of(policy, prompt, tokens).mean())
        engine.step()
    frozen = {name.replace(".base_layer", ""): p for name, p in policy.model.named_parameters() if "lora_" not in name}
    assert all(torch.equal(p, frozen[name]) for name, p in plain.model.named_parameters())
    policy.model.eval()
    adapted = logprobs_of(policy, prompt, tokens).detach()
    drawn = sample(policy, [prompt], 2, SamplingParams(max_new_tokens=5), seed=1, step=0, prompt_indices=[0])
    if merge:
        merge_lora(policy.model)
    policy.save(tmp_path)
    reloaded = load(tmp_path, Handling())
    weights = tmp_path / "model.safetensors" if merge else tmp_path / "base/model.safetensors"
    assert set(load_file(weights)) == set(load_file(folder / "model.safetensors"))
    assert torch.allclose(adapted, logprobs_of(reloaded, prompt, tokens), atol=1e-4)
    assert (adapted.sum() - logprobs_of(plain, prompt, tokens).sum()).item() > 1
    again = sample(reloaded, [prompt], 2, SamplingParams(max_new_tokens=5), seed=1, step=0, prompt_indices=[0])
    assert torch.equal(drawn.tokens_PGT, again.tokens_PGT)


def test_a_policy_with_adapters_is_published_as_it_was_trained(folder: Path, tmp_path: Path) -> None:
    policy = load(folder, Handling(dtype="bfloat16"))
    lora = Lora(rank=4, alpha=8, dropout=0.5)
    add_lora(policy.model, lora, seed=1)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=1e-2)
    policy.model.eval()
    prompt, tokens = policy.encode_prompt("眼界？"), policy.encode_completion(GOLD)
    trained = logprobs_of(policy, prompt, tokens).detach()
    adapters = {name: p.clone() for name, p in policy.model.named_parameters() if "lora_" in name}
    policy.save(tmp_path)
    published = load(tmp_path, Handling(dtype="bfloat16"))
    assert torch.equal(logprobs_of(published, prompt, tokens), trained)
    ids, real = torch.tensor([prompt]), len(policy.tokenizer)  # beyond it lies padding, which `load` silences
    ours, theirs, plain = (
        model(ids).logits[..., :real].float()
        for model in (
            published.model,
            AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16),  # peft's layout; adapters in bfloat16
            AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16),
        )
    )
    assert (ours - theirs).norm() < 0.3 * (ours - plain).norm()  # what is between them is bfloat16
    add_lora(published.model, lora, seed=2)  # the next stage goes on with the same
    trainable = {name: p for name, p in published.model.named_parameters() if p.requires_grad}
    assert trainable.keys() == adapters.keys()
    assert all(torch.equal(p, adapters[name]) and p.dtype == torch.float32 for name, p in trainable.items())
    with pytest.raises(UserError, match="published with adapters of rank 4"):
        add_lora(published.model, Lora(rank=8, alpha=8, dropout=0.5), seed=2)
    (tmp_path / "again").mkdir()
    published.save(tmp_path / "again")
    for file in ("adapter_model.safetensors", "base/model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / file).read_bytes()


def test_merging_rounds_once(folder: Path) -> None:
    policy = load(folder, Handling(dtype="bfloat16"))
    name = "model.layers.0.mlp.up_proj"
    before: torch.Tensor = policy.model.get_submodule(name).weight.detach().float()
    add_lora(policy.model, Lora(rank=4, alpha=8), seed=1)
    adapter: Any = policy.model.get_submodule(name)
    torch.nn.init.normal_(adapter.lora_B["default"].weight, std=1e-2)
    update = adapter.get_delta_weight("default").detach()
    merge_lora(policy.model)
    assert torch.equal(policy.model.get_submodule(name).weight, (before + update).bfloat16())


# --- what is refused, before any weights are read where that is possible ----------------------------------------------


def without_weights(folder: Path, to: Path) -> Path:
    """The model's folder with weights that nobody can read."""
    shutil.copytree(folder, to)
    (to / "model.safetensors").write_bytes(b"not weights")
    return to


def test_a_tokenizer_without_a_chat_template(tmp_path: Path) -> None:
    folder = without_weights(real_models.make(tmp_path / "made", template=None), tmp_path / "model")
    with pytest.raises(UserError, match=r"no chat template.*chat: false"):
        load(folder, Handling())
    plain = load(tmp_path / "made", Handling(chat=False, system_prompt="只答其值。"))
    assert plain.tokenizer.decode(plain.encode_prompt("问")) == "只答其值。\n问\n"


def test_a_tokenizer_of_another_model(folder: Path, tmp_path: Path) -> None:
    other = without_weights(folder, tmp_path / "model")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    with pytest.raises(UserError, match=r"tokenizer knows \d+ tokens, its model 300 \(vocab_size"):
        load(other, Handling())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("model_type", ["qwen2", "llama"])
def test_a_model_from_scratch_is_loaded_again(tmp_path: Path, model_type: str, dtype: str) -> None:
    handling = Handling.model_validate({"dtype": dtype})
    architecture = {"model_type": model_type, **real_models.SIZES}
    made = from_config(architecture, train_tokenizer(["眼界，无见。"] * 3, 320), seed=1, handling=handling)
    made.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == dtype
    again = load(tmp_path, handling)
    prompt = again.encode_prompt("眼界？")
    assert prompt == made.encode_prompt("眼界？") and again.eos_ids == made.eos_ids and again.pad_id == made.pad_id
    drawn = [sample(policy, [prompt], 4, SamplingParams(max_new_tokens=8), seed=1, step=0, prompt_indices=[0])
             for policy in (made, again)]  # fmt: skip
    assert torch.equal(drawn[0].tokens_PGT, drawn[1].tokens_PGT)


def test_a_model_from_scratch_reads_in_the_dtype_that_is_declared(tmp_path: Path) -> None:
    """Of its bfloat16 weights float32 ones are trained, from the same start as those that are declared so."""
    losses: dict[str, list[float]] = {}
    for dtype in ("float32", "bfloat16"):
        handling = Handling.model_validate({"dtype": dtype, "gradient_checkpointing": True})
        policy = from_config(several.SIZES, train_tokenizer(several.LINES, 320), seed=1, handling=handling)
        (tmp_path / dtype).mkdir()
        records: list[dict[str, Any]] = []
        run = Run("base", tmp_path / dtype, "same", 1, records.append, 0)
        assert pretrain(policy, several.LINES, several.PRETRAINING, run) == several.PRETRAINING.steps
        assert {str(weights.dtype) for weights in policy.model.parameters()} == {f"torch.{dtype}"}
        losses[dtype] = [record["loss"] for record in records]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02) and losses["bfloat16"] != losses["float32"]


def test_lora_targets_that_match_no_module(folder: Path, tmp_path: Path) -> None:
    other = without_weights(folder, tmp_path / "model")
    with pytest.raises(UserError, match=r"lora.targets names 'q_porj'.*known: .*q_proj"):
        load(other, Handling(lora=Lora(rank=4, alpha=8, targets=["k_proj", "q_porj"])))


def test_a_budget_beyond_the_positions(folder: Path, tmp_path: Path) -> None:
    other = without_weights(folder, tmp_path / "model")
    with pytest.raises(UserError, match=r"1024 positions .*a completion up to 1000.*sampling.max_new_tokens"):
        load(other, Handling(), Room(["眼界，有见／无见？"], 1000))


@pytest.mark.parametrize("change", [{"hidden_size": 64, "head_dim": 8}, {"num_hidden_layers": 3}])
def test_weights_of_another_architecture(folder: Path, tmp_path: Path, change: dict[str, int]) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "model"))
    config = json.loads((other / "config.json").read_text())
    config.pop("layer_types", None)
    (other / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=r"not those of the architecture in its config\.json"):
        load(other, Handling())


def test_weights_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load a model from"):
        load(without_weights(folder, tmp_path / "model"), Handling())


def test_a_hub_name_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"hf download nobody/nothing --local-dir nothing.*`path: models/nothing`"):
        load("nobody/nothing", Handling())


# --- the whole way ------------------------------------------------------------------------------------------------


def test_a_curriculum_on_a_model_of_ones_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_models.make(project / "models/own", "qwen3", real_models.THINKING, "bfloat16")
    model = {"path": "models/own", "dtype": "bfloat16", "gradient_checkpointing": True, "system_prompt": "先思后答。"}
    (project / "params/models/own.yaml").write_text(yaml.safe_dump(model | {"lora": {"rank": 4, "alpha": 8}}))
    curricula = project / "params/curricula.yaml"
    edit(curricula, "model", value="own")
    edit(curricula, "model_files", value="models/own")
    edit(curricula, "warmup", "max_steps", value=4)
    edit(curricula, "warmup", "batch_size", value=8)
    edit(curricula, "warmup", "until", "questions", value=8)
    edit(curricula, "evaluation", value={"samples": 2, "ks": [1], "bootstrap": 200})
    edit(curricula, "policies", "lenient", "max_steps", value=2)
    edit(curricula, "grpo", "budget", value=4)
    edit(curricula, "sampling", "max_new_tokens", value=12)
    monkeypatch.chdir(project)
    original = load_file(project / "models/own/model.safetensors")
    for stage, *arguments in (["pretrain"], ["warmup"], ["grpo", "lenient"], ["grpo", "lenient-strict"]):
        importlib.import_module(f"tasks.{stage}").main(*arguments)
    importlib.import_module("tasks.evaluate").main("lenient-strict")
    policy = project / "policies/lenient-strict"
    beside = load_file(policy / "base/model.safetensors")
    assert beside.keys() == original.keys() and all(torch.equal(beside[key], original[key]) for key in original)
    adapters = load_file(policy / "adapter_model.safetensors")
    assert any("lora_B" in name and bool(part.any()) for name, part in adapters.items())  # they begin as nothing
    assert AutoTokenizer.from_pretrained(policy).chat_template == real_models.THINKING
    assert AutoModelForCausalLM.from_pretrained(policy).config.model_type == "qwen3"
    assert json.loads((policy / "policy.json").read_text())["total_steps"] == 4
    samples = [json.loads(line) for line in (project / "results/lenient-strict/samples.jsonl").open()]
    assert all(line["completion"].startswith("<think>") for line in samples)


def test_another_models_checkpoint_is_not_resumed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage stopped half way, then another model under the same name: it starts over, saying so."""
    monkeypatch.chdir(project)
    work = project / ".upaya/work/warmup/checkpoints"
    work.mkdir(parents=True)
    save_file({"model.x": torch.zeros(1)}, work / "step-000003.safetensors")
    (work / "step-000003.json").write_text(json.dumps({"fingerprint": "another"}))
    importlib.import_module("tasks.warmup").main()
    assert not work.exists()

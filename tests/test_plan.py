"""What `upaya plan` says against what is really held."""

import math
import re
import shutil
from pathlib import Path

import pytest
import real_models
import torch
from several import QUESTIONS
from transformers import AutoConfig, AutoModelForCausalLM

from upaya.cli import main
from upaya.declared.curricula import load_curricula
from upaya.declared.grpo import Loss
from upaya.declared.launch import LAUNCHES, Launch, load_launch
from upaya.declared.model import Lora, ModelFile
from upaya.errors import UserError
from upaya.measuring import memory, plan
from upaya.measuring.memory import GB, Lengths, Needs, Passes, checkpoints, needs, packed
from upaya.measuring.plan import device_memory, lengths_of, share_of_memory
from upaya.measuring.roofline import Machine, declared, step_seconds
from upaya.measuring.shape import FAMILIES, _built, shape_of
from upaya.policy.adapters import add_lora
from upaya.policy.model import Policy, load
from upaya.rewards.regimes import load_regimes
from upaya.training.completions import logprobs as logprobs_module
from upaya.training.completions.logprobs import completion_logprobs
from upaya.training.steps.checkpoints import KEPT
from upaya.training.steps.engine import Engine

ROOT = Path(__file__).parents[1]
QWEN = ("qwen2.5-0.5b-instruct", "qwen2.5-3b-instruct", "qwen2.5-3b-instruct-lora")


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a checkout in which nothing is built, whatever this one holds."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(plan, "TRAIN", tmp_path / "questions/train.jsonl")
    monkeypatch.setattr(plan, "POLICIES", tmp_path / "policies")


def of(model: ModelFile, **launch: object) -> Needs:
    curricula = load_curricula(load_regimes())
    return needs(shape_of(model), model, curricula, Launch.model_validate(launch), Lengths(prompt=100))


def held(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def stepped(policy: Policy) -> Engine:
    engine = Engine(policy, learning_rate=1e-4, max_grad_norm=1.0)
    prompt, tokens = policy.encode_prompt("眼界？"), policy.encode_completion("无见")
    lengths = torch.tensor([len(tokens)])
    engine.backward(completion_logprobs(policy, [prompt], torch.tensor([0]), torch.tensor([tokens]), lengths)[0].sum())
    return engine


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, Lora(rank=4, alpha=8), Lora(rank=2, alpha=8, targets=["q_proj", "up_proj"])])
def test_weights_gradients_and_optimiser_are_what_is_held(tmp_path: Path, dtype: str, lora: Lora | None) -> None:
    folder = real_models.make(tmp_path / "model")
    model = ModelFile.model_validate({"path": str(folder), "dtype": dtype, "lora": lora and lora.model_dump()})
    expected, policy = of(model), load(folder, model)
    if lora:
        add_lora(policy.model, lora, seed=1)
    assert expected.weights == held(list(policy.model.parameters()))
    engine = stepped(policy)
    assert expected.gradients == held([m.grad for m in engine.masters.values() if m.grad is not None])
    assert all(p.grad is None for name, p in engine.trained.items() if p is not engine.masters[name])
    engine.step()
    written = [math.prod(whole.shape) for name, whole in engine.tensors().items() if "optimiser.step." not in name]
    assert checkpoints(shape_of(model)) == 3 * 4 * sum(written)  # two that are kept, and one that is being written
    states = [value for state in engine.optimiser.state.values() for key, value in state.items() if key != "step"]
    own = [m for name, m in engine.masters.items() if m is not engine.trained[name]]
    assert expected.optimiser == held(states) + held(own)


@pytest.mark.parametrize(
    "lora", [None, {"rank": 4, "alpha": 8}, {"rank": 2, "alpha": 8, "targets": ["q_proj", "k_proj"]}]
)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_arithmetic_of_a_family_is_what_the_model_has(
    family: str, tied: bool, lora: dict[str, object] | None
) -> None:
    sizes = {**real_models.SIZES, "model_type": family, "vocab_size": 500, "tie_word_embeddings": tied, "head_dim": 24}
    model = ModelFile.model_validate({"hub": "a/b", "shape": sizes, "lora": lora})
    assert shape_of(model) == _built(sizes, model.lora)


def test_a_model_that_is_not_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is given by its folder no hub is asked; one that the hub does not give may be given by its sizes."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot load 'a/b' from the hub.*`shape`"):
        shape_of(ModelFile.model_validate({"hub": "a/b"}))
    monkeypatch.setattr("upaya.policy.model.hub_config", None)
    with pytest.raises(UserError, match=r"no model at 'a/b': no config\.json"):
        shape_of(ModelFile.model_validate({"path": "a/b"}))


def test_zero_shares_out_one_thing_after_the_other() -> None:
    model = ModelFile.model_validate(
        {"hub": "a/b", "dtype": "bfloat16", "shape": {"model_type": "qwen2", **real_models.SIZES}}
    )
    alone = of(model)
    one, two, three = (of(model, processes=4, zero=zero) for zero in (1, 2, 3))
    assert one.optimiser == alone.optimiser / 4 and one.weights == alone.weights
    bucket = 2 * shape_of(model).trained  # of DeepSpeed's, here as large as all gradients
    assert two.gradients - bucket == (one.gradients - bucket) / 4 and two.weights == alone.weights
    assert three.weights == alone.weights / 4 and three.gathered == alone.weights
    assert alone.peak > one.peak > two.peak


def test_less_is_kept_with_checkpointing() -> None:
    shape = {"model_type": "qwen2", **real_models.SIZES, "num_hidden_layers": 30, "vocab_size": 500}
    kept, computed_again = (
        of(ModelFile.model_validate({"hub": "a/b", "shape": shape, "gradient_checkpointing": checkpointing}))
        for checkpointing in (False, True)
    )
    assert computed_again.activations < kept.activations / 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, {"rank": 8, "alpha": 8}])
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_activations_are_what_torch_keeps(family: str, dtype: str, lora: dict[str, int] | None) -> None:
    """Of the layers of an update's forward pass: tensors that are saved for the backward pass, parameters left out."""
    sizes = {**real_models.SIZES, "hidden_size": 128, "intermediate_size": 320, "vocab_size": 300, "head_dim": 32}
    model = ModelFile.model_validate(
        {"hub": "a/b", "dtype": dtype, "lora": lora, "shape": {"model_type": family, **sizes}}
    )
    config = AutoConfig.for_model(family, **sizes)
    policy = Policy(AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)), None)
    if model.lora:
        add_lora(policy.model, model.lora, seed=1)
    policy.model.train()
    prompts, group, asked, said = 3, 4, 50, 20
    own = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logprobs, _ = completion_logprobs(
            policy, [[5] * asked] * prompts, torch.arange(prompts).repeat_interleave(group),
            torch.full((prompts * group, said), 7), torch.full((prompts * group,), said),
        )  # fmt: skip
    batch, several = packed(10_000, prompts, group, asked, said)
    expected = sum(Passes(shape_of(model), model, on_gpu=False).kept(batch))
    assert not several and logprobs.requires_grad
    assert sum(kept.values()) == pytest.approx(expected, rel=0.05)


def test_what_stands_in_modules_that_import_torch_too() -> None:
    assert memory.LOGITS_AT_ONCE == logprobs_module.ROWS_AT_ONCE
    assert memory.CHECKPOINTS == KEPT


@pytest.mark.parametrize(
    ("budget", "prompts", "rows", "several"),
    [(1000, 4, 16, False), (260, 2, 8, True), (90, 1, 2, True), (50, 1, 1, True)],
)
def test_how_a_micro_batch_is_filled(budget: int, prompts: int, rows: int, several: bool) -> None:
    """Four prompts of 50 tokens with four completions of 20 each."""
    batch, cut = packed(budget, 4, 4, 50, 20)
    assert (batch.prompts, batch.rows, cut) == (prompts, rows, several)


def test_a_reference_is_whole_in_each_process_and_its_logits_stand_beside_the_policys() -> None:
    shape = {"model_type": "qwen2", **real_models.SIZES, "vocab_size": 50_000}
    model = ModelFile.model_validate({"hub": "a/b", "shape": shape})
    curricula = load_curricula(load_regimes())
    held_close = curricula.model_copy(
        update={"grpo": curricula.grpo.model_copy(update={"loss": Loss(kl=0.1), "tokens_per_micro_batch": 65536})}
    )
    launch, lengths = Launch(processes=2, zero=3), Lengths(100, 1)
    needed = needs(shape_of(model), model, held_close, launch, lengths)
    assert needed.reference == 2 * needed.weights == 4 * shape_of(model).parameters
    batch, _ = packed(65536, 16, 8, 100, 64)
    assert needed.logits >= 2 * batch.predicted * 50_000 * 4


def test_seconds_are_those_of_the_slower_of_arithmetic_and_memory() -> None:
    model = ModelFile.model_validate(
        {"hub": "a/b", "shape": {"model_type": "qwen2", **real_models.SIZES, "vocab_size": 500}}
    )
    curricula = load_curricula(load_regimes())

    def seconds(operations: float, bandwidth: float) -> tuple[float, float]:
        return step_seconds(shape_of(model), model, curricula, Launch(), Lengths(), Machine(operations, bandwidth))

    rollout, update = seconds(1e9, 1e18)
    assert seconds(2e9, 1e18) == pytest.approx((rollout / 2, update / 2), rel=1e-6)
    assert seconds(1e18, 1e9)[0] == pytest.approx(2 * seconds(1e18, 2e9)[0], rel=1e-6)
    assert declared(Launch()) is None and declared(Launch(operations=989, bandwidth=3350)) == Machine(989e12, 3350e9)


def test_lengths_are_tokens_where_the_tokenizer_is_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curricula = load_curricula(load_regimes())
    folder = real_models.make(tmp_path / "model")
    question = QUESTIONS[0].model_copy(update={"kind": curricula.questions.kinds[0], "difficulty": 12})
    monkeypatch.setattr(plan, "TRAIN", folder / "config.json")  # that there are questions
    monkeypatch.setattr(plan, "read_split", lambda folder, split: [question])
    characters = lengths_of(curricula, ModelFile(hub="nobody/nothing"))
    assert characters.prompt == len(question.prompt) + plan.TEMPLATE and characters.shown == len(question.gold) + 1
    tokens = load(folder).tokenizer(question.prompt)["input_ids"]
    assert lengths_of(curricula, ModelFile(path=str(folder))).prompt == len(tokens) + plan.TEMPLATE
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken/tokenizer.json").write_text("{")
    assert lengths_of(curricula, ModelFile(path=str(tmp_path / "broken"))) == characters
    shutil.copytree(folder, tmp_path / "policies/base")
    for made_of, prompt in (("somebody/other", question.prompt), ("nobody/nothing", tokens)):
        monkeypatch.setattr(plan, "provenance", lambda name, source=made_of: {"source": source})
        assert lengths_of(curricula, ModelFile(hub="nobody/nothing")).prompt == len(prompt) + plan.TEMPLATE


@pytest.mark.parametrize("name", ["tiny", *QWEN])
def test_the_plan_for_every_shipped_model_and_launch(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["upaya", "plan", "--model", name])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().out
    assert ended.value.code == 0
    for path in LAUNCHES.glob("*.yaml"):
        assert path.stem in said and load_launch(path.stem)
    rows = [
        [cell.strip(" │┃") for cell in re.split("[│┃]", line)[1:-1]] for line in said.splitlines() if "fits" in line
    ]
    fits = dict(zip(sorted(path.stem for path in LAUNCHES.glob("*.yaml")), rows[0][1:], strict=True))
    assert fits["8x80gb"] == "yes" and fits["two-nodes"] == "yes"
    assert fits["1x24gb"] == ("NO" if name == "qwen2.5-3b-instruct" else "yes")


def test_known_sizes() -> None:
    from upaya.declared.model import load_model_file

    sizes = {name: shape_of(load_model_file(name)).parameters for name in QWEN}
    assert sizes == {QWEN[0]: 494_032_768, QWEN[1]: 3_085_938_688, QWEN[2]: 3_085_938_688}  # as their cards say


def test_a_run_that_cannot_fit_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    curricula = load_curricula(load_regimes()).model_copy(update={"model": QWEN[1]})
    assert share_of_memory(curricula, Launch(device_memory=24)) > 1
    assert "qwen2.5-3b-instruct needs some 59.3 GB" in " ".join(capsys.readouterr().out.split())
    assert 0.5 < share_of_memory(curricula, Launch(device_memory=80)) < 1
    assert not capsys.readouterr().out
    assert device_memory(Launch(device_memory=80)) == 80 * GB
    assert device_memory(Launch(processes=2)) <= device_memory(Launch()) / 2


def test_a_hub_model_without_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="give its sizes under `shape`"):
        shape_of(ModelFile(hub="nobody/nothing"))

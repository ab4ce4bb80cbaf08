"""What `upaya plan` says against what is really held."""

from pathlib import Path

import pytest
import real_models
import torch

from upaya.cli import main
from upaya.declared.curricula import load_curricula
from upaya.declared.launch import LAUNCHES, Launch, load_launch
from upaya.declared.model import Lora, ModelFile
from upaya.errors import UserError
from upaya.measuring import memory
from upaya.measuring.memory import GB, Lengths, Needs, needs, packed
from upaya.measuring.plan import device_memory, lengths_of, warn_where_it_cannot_fit
from upaya.measuring.roofline import Machine, step_seconds
from upaya.measuring.shape import FAMILIES, _built, shape_of
from upaya.policy.adapters import add_lora
from upaya.policy.model import Policy, load
from upaya.rewards.regimes import load_regimes
from upaya.training.completions.logprobs import completion_logprobs
from upaya.training.steps.engine import Engine

ROOT = Path(__file__).parents[1]
QWEN = ("qwen2.5-0.5b-instruct", "qwen2.5-3b-instruct", "qwen2.5-3b-instruct-lora")


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


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
    fits = {line.split("│")[1].split()[0]: line.split("│")[-2].strip() for line in said.splitlines() if line[:1] == "│"}
    assert fits["8x80gb"] == "yes" and fits["two-nodes"] == "yes"
    assert fits["1x24gb"] == ("NO" if name == "qwen2.5-3b-instruct" else "yes")


def test_known_sizes() -> None:
    from upaya.declared.model import load_model_file

    sizes = {name: shape_of(load_model_file(name)).parameters for name in QWEN}
    assert sizes == {QWEN[0]: 494_032_768, QWEN[1]: 3_085_938_688, QWEN[2]: 3_085_938_688}  # as their cards say


def test_a_run_that_cannot_fit_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    curricula = load_curricula(load_regimes()).model_copy(update={"model": QWEN[1]})
    warn_where_it_cannot_fit(curricula, Launch(device_memory=24))
    assert "qwen2.5-3b-instruct needs some 7" in " ".join(capsys.readouterr().out.split())
    warn_where_it_cannot_fit(curricula, Launch(device_memory=80))
    assert not capsys.readouterr().out
    assert device_memory(Launch(device_memory=80)) == 80 * GB
    assert device_memory(Launch(processes=2)) <= device_memory(Launch()) / 2


def test_a_hub_model_without_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="give its sizes under `shape`"):
        shape_of(ModelFile(hub="nobody/nothing"))

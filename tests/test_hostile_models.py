"""Folders that hold no model, or one that cannot be asked: refused before any weights are read."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import real_models
import torch
from safetensors.torch import load_file, save_file

from upaya.declared.model import Handling, Lora, ModelFile
from upaya.errors import UserError
from upaya.operating.adopting_model import adopt_model
from upaya.policy.adapters import CONFIG, WEIGHTS, add_lora
from upaya.policy.model import Room, load
from upaya.training.sft.from_scratch import from_config, train_tokenizer

T = real_models.TEMPLATE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_models.make(tmp_path_factory.mktemp("model") / "own")


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's folder, with weights that nobody may read."""
    monkeypatch.setattr("upaya.policy.soundness.SECONDS", 0.5)
    copy = Path(shutil.copytree(made, tmp_path / "model"))
    (copy / "model.safetensors").write_bytes(b"not weights")
    return copy


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("command", ["load", "adopt"])
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "[]", "config.json: expected a JSON object"),
        ("config.json", "{", "config.json, line 1: not JSON"),
        ("config.json", '{"a":' * 9000, "config.json: not JSON .nested too deep"),
        ("config.json", {"hidden_size": "five"}, "'hidden_size'.* expected int, got str"),
        ("config.json", {"num_attention_heads": 0}, "config.json does not make a model: .*zero"),
        ("config.json", {"num_attention_heads": 5}, "config.json does not make a model"),
        ("config.json", {"num_hidden_layers": -1, "layer_types": None}, "does not make a model|layer"),
        ("config.json", {"hidden_size": 10**9}, "does not make a model|parameters: .* GB at the least"),
        ("config.json", {"intermediate_size": 10**10}, "parameters: .* GB at the least, and this machine has"),
        ("config.json", {"hidden_act": "nope"}, "config.json does not make a model: 'nope'"),
        ("config.json", {"dtype": "x"}, "cannot load a model from"),
        ("generation_config.json", "[]", "generation_config.json: expected a JSON object"),
        ("generation_config.json", "{", "generation_config.json, line 1: not JSON"),
        ("generation_config.json", '{"eos_token_id": "x"}', "names 'x', no token of the model"),
        ("generation_config.json", '{"eos_token_id": [0, 1000000]}', "names 1000000, no token of the model"),
        ("tokenizer_config.json", "null", "tokenizer_config.json: expected a JSON object"),
        ("tokenizer_config.json", {"eos_token": None}, "no token that ends a text"),
        ("tokenizer.json", "{}", "cannot load a model from|knows"),
        ("tokenizer.json", "{", "cannot load a model from"),
        ("chat_template.jinja", "{% for m in %}", "chat template fails .Expected an expression"),
        ("chat_template.jinja", "{{ raise_exception('no') }}", r"chat template fails .no\)"),
        ("chat_template.jinja", "{{ messages[7].content }}", "chat template fails .list object has no element 7"),
        ("chat_template.jinja", "{{ 1 / 0 }}", "chat template fails .division by zero"),
        (
            "chat_template.jinja",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "chat template takes more than 0.5 s",
        ),
        ("chat_template.jinja", "<|im_start|>", "chat template leaves out what the system says"),
        (
            "chat_template.jinja",
            "{% for m in messages if m.role != 'user' %}{{ m.content }}{% endfor %}",
            "chat template leaves out what the user says",
        ),
        (
            "chat_template.jinja",
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + T,
            "chat template fails .no system role.*leave out `system_prompt`",
        ),
        ("chat_template.jinja", T + "{{ 'x' * 10**6 }}", "chat template adds 1,000,.* characters"),
        (
            "chat_template.jinja",
            "{{ range(99999) | random }}{{ range(99999) | random }}" + T,
            "something else each time",
        ),
    ],
)
def test_a_folder_that_is_no_model_of_ours(
    folder: Path, file: str, content: str | dict[str, Any], message: str, command: str
) -> None:
    if isinstance(content, str):
        (folder / file).write_text(content)
    else:
        change(folder / file, **content)
    with pytest.raises(UserError, match=f"(?s){message}"):
        if command == "load":
            load(folder, Handling(system_prompt="只答其值。", lora=Lora(rank=2, alpha=2)), Room(["眼界？"], 60))
        else:
            adopt_model(str(folder), "mine", dry_run=True)


@pytest.mark.parametrize("instead", [None, "model.safetensors"])
def test_a_folder_without_weights_is_not_adopted(folder: Path, instead: str | None) -> None:
    (folder / "model.safetensors").unlink()
    if instead:
        (folder / "model.safetensors").symlink_to(instead)
    with pytest.raises(UserError, match=r"no weights there|leads nowhere"):
        adopt_model(str(folder), "mine", dry_run=True)


@pytest.mark.parametrize("command", ["load", "adopt"])
@pytest.mark.parametrize("file", ["generation_config.json", "chat_template.jinja", "tokenizer.json"])
@pytest.mark.parametrize("what", ["a link to itself", "a link to nothing", "a pipe"])
def test_what_only_looks_like_a_file_is_not_taken_for_one_left_out(
    folder: Path, file: str, what: str, command: str
) -> None:
    path = folder / file
    path.unlink(missing_ok=True)
    if what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(file if what == "a link to itself" else "nothing")
    with pytest.raises(UserError, match=f"{file} is no file, but a link that leads nowhere, or a pipe"):
        if command == "load":
            load(folder, Handling())
        else:
            adopt_model(str(folder), "mine", dry_run=True)


@pytest.fixture(scope="module")
def adapted(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy as one with adapters is published."""
    folder = tmp_path_factory.mktemp("adapted") / "own"
    folder.mkdir()
    policy = load(made, Handling(lora=Lora(rank=2, alpha=2)))
    add_lora(policy.model, Lora(rank=2, alpha=2), seed=1)
    policy.save(folder)
    load(folder, Handling())
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: change(folder / CONFIG, r="two"), "adapter_config.json makes no adapters for the model"),
        (lambda folder: change(folder / CONFIG, target_modules=["none"]), "makes no adapters for the model in .*none"),
        (lambda folder: change(folder / CONFIG, r=3), "does not hold the adapters that adapter_config.json .* shape"),
        (lambda folder: (folder / CONFIG).write_text("{"), "makes no adapters for the model in"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"no weights"), "cannot read .*adapter_model.safetensors"),
        (lambda folder: (folder / WEIGHTS).unlink(), "cannot read .*adapter_model.safetensors"),
        (lambda folder: tensors(folder / WEIGHTS, lambda all: all.popitem()), "1 are missing"),
        (lambda folder: tensors(folder / WEIGHTS, lambda all: all.update(x=torch.ones(2))), "x the first of them"),
        (
            lambda folder: tensors(folder / WEIGHTS, lambda all: next(iter(all.values())).fill_(float("nan"))),
            "lora_A.* holds what is no finite number",
        ),
    ],
)
def test_adapters_that_are_not_the_model_s(
    adapted: Path, tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    folder = Path(shutil.copytree(adapted, tmp_path / "own"))
    change(folder)
    with pytest.raises(UserError, match=f"(?s){message}"):
        load(folder, Handling())


def tensors(file: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    there = load_file(file)
    change(there)
    save_file(there, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (float("nan"), torch.float32, "holds what is no finite number"),
        (float("inf"), torch.float32, "holds what is no finite number"),
        (1.0, torch.int32, "is of type I32; weights are floating-point numbers"),
        (1.0, torch.bool, "is of type BOOL; weights are floating-point numbers"),
    ],
)
def test_weights_that_are_no_numbers(
    made: Path, tmp_path: Path, value: float, dtype: torch.dtype, message: str
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "model"))
    weights = {name: weight.to(dtype) for name, weight in load_file(folder / "model.safetensors").items()}
    next(iter(weights.values())).view(-1)[0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=message):
        load(folder, Handling())


@pytest.mark.parametrize("path", ["a/b", "nowhere", "a\0b", "x" * 300, "x" * 300 + "/b", "a/b/c", "./a"])
def test_no_hub_is_asked_for_a_path(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: object, **settings: object) -> None:
        raise AssertionError("a hub was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(UserError, match="no such folder"):
        load(Path(path), Handling())


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def connect(*arguments: object, **settings: object) -> None:
        asked.append(arguments)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(UserError, match=r"cannot load 'nobody/nothing' from the hub: .*hf download nobody/nothing"):
        load("nobody/nothing", Handling())
    assert len(asked) <= 2  # its name, its address


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "five"}, "hidden_size is 'five'; expected a whole number from 1 to"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0; expected a whole number from 1 to"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; expected"),
        ({"max_position_embeddings": True}, "max_position_embeddings is True; expected"),
        ({"model_type": 3}, "model_type is missing"),
        ({"num_attention_heads": 5}, "'architecture' does not make a model"),
        ({"num_key_value_heads": 3}, "'architecture' does not make a model"),
        ({"attention_dropout": 5.0}, "'architecture' does not make a model"),
        ({"hidden_act": "nope"}, "'architecture' does not make a model: 'nope'"),
        ({"intermediate_size": 10**6, "hidden_size": 10**6}, "GB at the least, and this machine has"),
    ],
)
def test_an_architecture_that_makes_no_model(change: dict[str, Any], message: str) -> None:
    settings = {"model_type": "llama", **real_models.SIZES, **change}
    pretraining = {"vocab_size": 320, "steps": 1, "batch_size": 1, "sequence_length": 8,
                   "optimiser": {"learning_rate": 1e-3, "max_grad_norm": 1.0}}  # fmt: skip
    with pytest.raises((ValueError, UserError), match=message):
        declared = ModelFile.model_validate({"architecture": settings, "pretraining": pretraining})
        assert declared.architecture
        from_config(declared.architecture, train_tokenizer(["眼界，无见。"] * 3, 320), seed=1)


def test_bfloat16_that_this_process_cannot_compute_is_said_before_any_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = torch.nn.functional.scaled_dot_product_attention

    def fails(*states: torch.Tensor, **how: Any) -> torch.Tensor:
        if states[0].device.type == "cpu":
            raise RuntimeError("pack_vnni2 is only supported when avx512 is supported\nat somewhere")
        return kernel(*states, **how)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", fails)
    with pytest.raises(UserError, match=r"key 'numerics\.mode': .*pack_vnni2.* Say `native`"):
        load(folder, Handling(dtype="bfloat16"))

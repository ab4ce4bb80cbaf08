"""What reading a model takes of a host's memory: processes that share out its weights read one and the same copy."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, activated
from transformers import AutoConfig, AutoModelForCausalLM

from tasks.heap import HANDED_BACK
from upaya.training.sft.from_scratch import train_tokenizer

LOAD = """
import json, sys
from pathlib import Path
from upaya.startup import start
start()
from upaya.declared.model import Handling
from upaya.policy.model import load

def own() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return 1024 * int(line.split()[1])

load(Path(sys.argv[1]), Handling(dtype="bfloat16"))  # once, for what is allocated by any first one
before = own()
policy = load(Path(sys.argv[1]), Handling(dtype="bfloat16"))
print(json.dumps([own() - before, policy.model.get_memory_footprint()]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's memory")
def test_weights_of_the_declared_type_are_read_where_they_lie(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["眼界，有见／无见者，无见。"] * 5, 400)
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8,
             "num_key_value_heads": 2, "vocab_size": 4096, "eos_token_id": tokenizer.eos_token_id}  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    command = [sys.executable, "-c", LOAD, str(tmp_path / "model")]
    found = subprocess.run(command, env=activated(), capture_output=True, text=True, check=True)
    own, weights = json.loads(found.stdout.splitlines()[-1])
    assert weights > 50e6 and own < weights / 2  # what a first one of this size allocates besides is some 12 MB at most


KEPT = """
import sys
import psutil, torch
from tasks.heap import hand_back_memory

if sys.argv[1:]:
    hand_back_memory()
big = torch.ones(7_000_000)
del big  # from here on glibc keeps pieces of up to its size
pieces = [torch.ones(2**20) for _ in range(64)]
held = psutil.Process().memory_info().rss
del pieces[::2]
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about how glibc keeps memory")
@pytest.mark.parametrize(
    ("arguments", "environment", "back"),
    [(["now"], {}, 32), ([], HANDED_BACK, 32), ([], {}, 0)],
    ids=["this process", "one that is started", "left to itself"],
)
def test_memory_is_handed_back_where_it_is_tight(arguments: list[str], environment: dict[str, str], back: int) -> None:
    """So that a stage holds what `upaya plan` counts; elsewhere it is kept, for that is faster."""
    command = [sys.executable, "-c", KEPT, *arguments]
    env = activated() | {"PYTHONPATH": str(ROOT)} | environment
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert abs(int(found.stdout) - back * 2**22) < 2**22

"""Pinned, an update makes the same bytes on machines that differ; not pinned, it does not."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.training  # an update each, in processes of their own

# What a policy's update consists of, in plain torch, for that is imported in a fraction of the time.
UPDATE = """
import hashlib
import torch
import torch.nn.functional as F

torch.set_deterministic_debug_mode("error")  # without importing the compiler, which takes longer than the update
torch.manual_seed(1)
sizes = (700, 64), (192, 64), (64, 192), (192, 64)
weights = [torch.nn.Parameter(torch.randn(size) * 0.1) for size in sizes]
embed, up, down, mix = weights
for _ in range(3):
    tokens = torch.randint(0, 700, (16, 33))
    hidden = F.rms_norm(embed[tokens[:, :-1]], (64,))
    query, key, value = (part.unflatten(-1, (2, 32)).transpose(1, 2) for part in (hidden @ mix.T).split(64, -1))
    hidden = hidden + F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)
    hidden = hidden + F.silu(hidden @ up.T) @ down.T
    logprobs = (hidden @ embed.T).log_softmax(-1)
    loss = -logprobs.gather(-1, tokens[:, 1:, None]).mean()
    gradients = torch.autograd.grad(loss, weights)
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients):
            weight -= 0.1 * gradient / gradient.norm()
print(hashlib.sha256(b"".join(weight.detach().numpy().tobytes() for weight in weights)).hexdigest())
"""
PINNED = "from upaya.numerics import pin\npin({!r}, threads={})\n" + UPDATE
SUMS = """
import torch

torch.manual_seed(1)
print([torch.randn(1_000_000).sum().item() for _ in range(20)])
"""
NO_AVX512 = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD"
MACHINES = [  # what the environment may say, of another machine or of its user
    {},
    {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41",
     "GLIBC_TUNABLES": NO_AVX512, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MKL_DYNAMIC": "TRUE"},
    {"ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AUTO", "OMP_DYNAMIC": "TRUE", "OMP_NUM_THREADS": "4"},
]  # fmt: skip
ELSEWHERE = """
from unittest import mock

import torch

from upaya.numerics import pin

for what, instead in (
    ("upaya.numerics._mkl_branch", lambda: 2),  # AUTO
    ("upaya.numerics._mkl_branch", lambda: None),
    ("torch.cpu._is_avx2_supported", lambda: False),
    ("platform.machine", lambda: "aarch64"),
):
    with mock.patch(what, instead):
        print(pin("avx2", 2))
"""
LATE = """
import torch

from upaya.numerics import pin

torch.ones(40, 40) @ torch.ones(40, 40)
try:
    pin("avx2", 2)
except RuntimeError as error:
    print(error)
"""


def said(program: str, **environment: str) -> list[str]:
    """The lines that a program prints, in a process of its own, for what is pinned stays pinned."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("ATEN_", "MKL_", "OMP_", "ONEDNN_"))}
    found = subprocess.run(
        [sys.executable, "-c", program], env=ours | environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


@pytest.mark.parametrize("numerics", ["avx2", "portable"])
def test_pinned_the_bytes_are_the_same(numerics: str) -> None:
    assert len({said(PINNED.format(numerics, 2), **machine)[-1] for machine in MACHINES}) == 1


def test_not_pinned_the_instruction_set_makes_other_bytes() -> None:
    """With two sets that every processor has on which bytes are pinned: AVX2, and what came before."""
    sets = [
        {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    ]
    assert len({said(PINNED.format("native", 2), **each)[-1] for each in sets}) == 2


def test_the_number_of_threads_is_part_of_what_makes_the_bytes() -> None:
    """Each thread sums its share. (Whether products of matrices depend on them is for the processor to say.)"""
    sums = PINNED.removesuffix(UPDATE) + SUMS
    assert len({said(sums.format("avx2", threads))[-1] for threads in (1, 2)}) == 2


def test_pinning_what_torch_has_chosen_already_is_refused() -> None:
    assert "call upaya.numerics.pin() earlier" in said(LATE)[-1]


def test_where_it_cannot_be_had_the_program_goes_on_and_says_so() -> None:
    lines = said(ELSEWHERE)
    reasons = ["Intel's processors only", "without MKL", "has no AVX2", "not an x86-64 processor but aarch64"]
    assert lines[1::2] == ["False"] * 4
    assert all(reason in line and "may differ" in line for reason, line in zip(reasons, lines[::2], strict=True))

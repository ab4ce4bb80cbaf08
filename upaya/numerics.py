"""The same bytes on other machines: what torch would choose by the processor that it finds is chosen here.

Sums of floating-point numbers depend on their order, and libraries add in the order that suits the processor. What
takes part in this project's work:

- ATen's own kernels (softmax, norms, reductions): ATEN_CPU_CAPABILITY. At AVX2 they are the same on all processors.
- MKL, which multiplies matrices and takes exponentials and roots: MKL_CBWR. Its AVX2 branch is for Intel's processors,
  on others it goes its own way; its COMPATIBLE branch is for all of them, in SSE2, and slower. Even there its square
  root starts from what the processor's rsqrtps estimates, which is not the same everywhere: AdamW has to be torch's
  fused one, whose roots are ATen's own and exact.
- The number of threads, for that is how many parts a sum is cut into; whether each has a core of its own is not.

What is left alone: oneDNN, which computes nothing in float32 here; the C library's functions, of which all processors
with AVX2 use one version (another version of the C library may have others). Not to be relied on, and not used where
bytes are kept: NumPy's exp, log and dot, and torch's log and sqrt in float64, which no setting here makes the same.
"""

import ctypes
import os
import platform
from pathlib import Path

from upaya.declared.numerics import Mode
from upaya.terminal import console

BRANCHES = {"avx2": ("AVX2", 10), "portable": ("COMPATIBLE", 3)}  # MKL_CBWR, and the number by which MKL calls it
NOT_CHOSEN = 1  # MKL's number for having started without MKL_CBWR
# Functions that ATen leaves to MKL wherever their input is contiguous.
VECTOR_FUNCTIONS = ("acos", "asin", "atan", "cos", "erf", "erfc", "exp", "expm1", "log", "log10", "log1p", "log2",
                    "sin", "sqrt", "tan", "tanh")  # fmt: skip


def pin(mode: Mode, threads: int) -> bool:
    """Fix how this process computes on the CPU, whatever its environment says. To be called when a program starts.

    torch may have been imported, but must not have computed anything. On a processor without AVX2, or not of the x86
    family, or (with "avx2") not by Intel, the program goes on, and one line says that its bytes may differ.

    Args:
        mode: "avx2": the same bytes on every Intel processor that has AVX2; "portable": on every x86-64 processor
            that has it; "native": whatever is fastest on this one.
        threads: of each operation, on however many cores. The same bytes need the same number.

    Returns:
        Whether what was asked for holds on this machine.

    Raises:
        RuntimeError: torch has computed something before, and so chosen already.
    """
    os.environ["OMP_DYNAMIC"] = "FALSE"  # else as many threads as the machine has idle cores; read with the library
    import torch

    torch.set_num_threads(threads)  # MKL's too, whatever OMP_NUM_THREADS, MKL_NUM_THREADS and MKL_DYNAMIC say
    if mode == "native":
        hindrance = ""
    elif platform.machine().lower() not in ("x86_64", "amd64"):
        hindrance = f"this is not an x86-64 processor but {platform.machine()}"
    elif not torch.cpu._is_avx2_supported():
        hindrance = "this processor has no AVX2"
    else:
        hindrance = _choose(mode)
    _settle()
    if hindrance:
        console.print(f"numerics: {mode} cannot be had: {hindrance}. Bytes may differ from those of other machines.")
    return not hindrance


def _choose(mode: Mode) -> str:
    """Set the environment and have the libraries read it. Returns what stands in the way, or nothing."""
    import torch

    branch, number = BRANCHES[mode]
    os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
    os.environ["MKL_CBWR"] = branch
    os.environ.pop("MKL_ENABLE_INSTRUCTIONS", None)  # it would limit MKL's choice
    found = _mkl_branch()
    if torch.backends.cpu.get_cpu_capability() != "AVX2" or found == NOT_CHOSEN:
        raise RuntimeError("torch has computed before its numerics were pinned; call upaya.numerics.pin() earlier")
    if found == number:
        return ""
    if found is None:
        return "this torch computes without MKL"
    return f"MKL knows {branch} on Intel's processors only; `portable` is the same on all, and slower"


def _mkl_branch() -> int | None:
    """The branch that MKL has taken, which it does at the latest when asked; None where torch has no MKL.

    torch has MKL built in, and shows its mkl_cbwr_get under an inner name only.
    """
    import torch

    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return int(library.mkl_serv_cbwr_get(1))
    except (OSError, AttributeError):
        return None


def _settle() -> None:
    """Call each of MKL's vector functions once, in one thread.

    MKL 2024.2 looks for a function's kernel at its first call; where several threads make that call together, one of
    them can be given a kernel of low accuracy (pytorch/pytorch#188792: rarely, and when the machine is busy).
    """
    import torch

    for dtype in (torch.float32, torch.float64):
        values = torch.full((8,), 0.5, dtype=dtype)
        for name in VECTOR_FUNCTIONS:
            getattr(torch, name)(values)

"""What a program of this project switches on when it starts. Importing a module of upaya switches on nothing."""

import gc
import importlib
import os
import sys

from upaya.declared.numerics import Numerics
from upaya.declared.validation import Declared, load_keys
from upaya.numerics import pin
from upaya.paths import CURRICULA

# What transformers imports where it is installed, though nothing here uses it by way of transformers: DeepSpeed (which
# accelerate imports) takes four seconds at the start of every process, scipy and scikit-learn (MLflow's) one.
UNUSED = ("deepspeed", "scipy", "sklearn")


class Params(Declared):
    """Of params/curricula.yaml."""

    numerics: Numerics


def start_as_declared(threads: int | None = None) -> None:
    """`start` with the numerics that params/curricula.yaml declares. Args: threads: of this process, where it is one of
    several."""
    numerics = load_keys(CURRICULA, Params).numerics
    start(numerics if threads is None else numerics.model_copy(update={"threads": threads}))


def start(numerics: Numerics | None = None) -> None:
    """What a program calls that computes with a policy, before it imports anything that imports torch.

    Args:
        numerics: None leaves to the libraries how they compute.
    """
    if numerics:
        pin(numerics.mode, numerics.threads)
    for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "true")
    gc.disable()  # what is imported stays; to search it for garbage, time and again, takes a second
    try:
        _import_transformers()
    finally:
        gc.freeze()
        gc.enable()
    _deterministic()


def _import_transformers() -> None:
    """Without what it does not need here. To Python, None means that a module is not there."""
    hidden = [name for name in UNUSED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    importlib.import_module("transformers.modeling_utils")
    for name in hidden:
        del sys.modules[name]
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _deterministic() -> None:
    """The same bytes for the same inputs.

    Without it, gradients of repeated places are added up by several threads in whatever order they come (index_put on
    the CPU). What a GPU cannot do in a fixed order warns. (torch.use_deterministic_algorithms does the same, and
    imports the compiler for it: two seconds.)
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without space of its own cuBLAS promises no order
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

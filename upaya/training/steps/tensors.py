"""Tensors that are put together and written one after the other: a checkpoint of weights and optimiser state that are
shared out needs room for one of them, on the device as in the machine's memory."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from upaya.training.steps import processes

BYTES = 4  # of a number: all that is trained, and what its optimiser keeps, is in float32


class Whole(NamedTuple):
    """A float32 tensor that may be shared out among the processes. Attributes: gather: puts it together, in any shape
    with its elements in order; all processes call it."""

    shape: Sequence[int]
    gather: Callable[[], Tensor]


def write(path: Path, tensors: Mapping[str, Whole]) -> None:
    """The file that safetensors' `save_file` would write. All processes call it, and the first writes."""
    names = sorted(tensors)
    if processes.rank():
        for name in names:
            tensors[name].gather()
        return
    header, end = {}, 0
    for name in names:
        begin, end = end, end + BYTES * math.prod(tensors[name].shape)
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    try:
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                tensor = tensors[name].gather().detach()
                assert tensor.dtype == torch.float32 and tensor.numel() == math.prod(tensors[name].shape), name
                file.write(tensor.flatten().cpu().numpy().data)
    except OSError as error:
        error.filename = error.filename or str(path)  # what is full, a write does not say
        raise


def at_hand(tensors: Mapping[str, Whole]) -> dict[str, Tensor]:
    """All of them, in the machine's memory. All processes call it; the others than the first get nothing."""
    put_together = {}
    for name, tensor in sorted(tensors.items()):
        value = tensor.gather().detach()
        if processes.rank() == 0:
            put_together[name] = value.cpu().view(tuple(tensor.shape))
    return put_together


class Stored(Mapping[str, Tensor]):
    """The tensors of a file, each read when it is asked for. Raises SafetensorError where the file is none."""

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, "pt")
        self._names = frozenset(self._file.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)

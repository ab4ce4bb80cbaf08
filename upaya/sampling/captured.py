"""CUDA graphs: a decoding step of many small kernels, started by one call.

A step of a large model on a GPU is some thousand kernels of a few microseconds; Python starts them more slowly than
they run. Recorded once, they follow each other without it.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def captured(step: Callable[[], Tensor], first: bool) -> Callable[[], Tensor]:
    """Record `step` and return what replays it. On another device than a GPU: the step itself.

    Args:
        step: reads and writes tensors that stay where they are, never waits for the device, and does the same when it
            is repeated. It adds nothing up in an order that is not its own: torch's deterministic forms, which sort
            the places that are written to before each write, are left out of it.
        first: run it once before it is recorded, so that what it and the libraries set up at first stands.

    Returns:
        A function whose result lies in the same memory at each call: read it before the next.
    """
    if not torch.cuda.is_available():
        return step
    graph = torch.cuda.CUDAGraph()
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        if first:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                step()
            torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(graph):
            result = step()
    finally:
        torch.set_deterministic_debug_mode(mode)

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay

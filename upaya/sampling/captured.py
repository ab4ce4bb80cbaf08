"""CUDA graphs: a decoding step of many small kernels, started by one call.

A step of a large model on a GPU is some thousand kernels of a few microseconds; Python starts them more slowly than
they run. Recorded once, they follow each other without it.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def captured(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record `step` and return what replays it. On another device than a GPU: the step itself.

    Args:
        step: reads and writes tensors that stay where they are, never waits for the device, and does the same when it
            is repeated: it runs once before it is recorded, so that whatever libraries set up at first stands.

    Returns:
        A function whose result lies in the same memory at each call: read it before the next.
    """
    if not torch.cuda.is_available():
        return step
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay

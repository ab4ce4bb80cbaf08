"""What the C library does with memory that is freed: kept for the next that asks, or handed back at once.

Left to itself glibc keeps what is freed, and takes ever larger pieces for such that are worth keeping (up to 32 MB).
Micro-batches differ in size, and what one left is not what the next fits into: a stage held up to two and a half times
what it had asked for (docs/scaling.md). Handed back at once, a stage holds what `upaya plan` counts, and takes a fifth
to a half more of the processor's time, for the kernel clears each piece again. So only where memory is tight.
"""

import ctypes
import sys

TIGHT = 0.4  # share of a process's memory that it is expected to ask for, from which on it is handed back
LARGE_PIECE, LEFT_ON_TOP = 2**20, 2**27  # bytes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
# The same for a process that is started, as glibc reads it. Another C library does not.
HANDED_BACK = {"MALLOC_MMAP_THRESHOLD_": str(LARGE_PIECE), "MALLOC_TRIM_THRESHOLD_": str(LEFT_ON_TOP)}


def hand_back_memory() -> None:
    """Have this process give back each large piece as soon as it is free. Nothing to do but under glibc."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        set_option(M_MMAP_THRESHOLD, LARGE_PIECE)
        set_option(M_TRIM_THRESHOLD, LEFT_ON_TOP)

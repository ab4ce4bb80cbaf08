"""How floating-point numbers are added up on a CPU: which machines make the same bytes."""

from typing import Literal

from pydantic import Field

from upaya.declared.validation import Declared

MOST_THREADS = 4096  # no machine has more cores

Mode = Literal["native", "avx2", "portable"]


class Numerics(Declared):
    """See upaya/numerics.py for what is pinned, and docs/reproducibility.md for what it costs."""

    mode: Mode = Field(
        description="avx2: the same bytes on every Intel processor with AVX2; portable: on every x86-64 processor with "
        "it, at half the speed; native: whatever is fastest on this one"
    )
    threads: int = Field(
        gt=0, le=MOST_THREADS, description="of one process, on however many cores; the same bytes need the same number"
    )

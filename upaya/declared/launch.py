"""params/launch/*.yaml: in how many processes the training stages run."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from upaya.declared.numerics import MOST_THREADS
from upaya.declared.validation import Declared, Size, load_yaml
from upaya.errors import UserError, nearest
from upaya.paths import CURRICULA, LAUNCHES


class Launch(Declared):
    """In how many processes the training stages run, and what they share out."""

    processes: Size = Field(default=1, description="in all, over all nodes")
    zero: int = Field(default=0, ge=0, le=3, description="stage of DeepSpeed's ZeRO; 0: every process holds everything")
    threads: int | None = Field(
        default=None,
        gt=0,
        le=MOST_THREADS,
        description="of each of several processes on a CPU; None: the cores, shared out",
    )
    hostfile: Path | None = Field(
        default=None, strict=False, description="nodes and their slots, as DeepSpeed's launcher reads them"
    )
    device_memory: float | None = Field(
        default=None, gt=0, description="GB of each device, for `upaya plan`; None: of this machine's"
    )
    operations: float | None = Field(
        default=None, gt=0, description="10¹² of matrix products a second, of each device; for `upaya plan`"
    )
    bandwidth: float | None = Field(
        default=None, gt=0, description="GB a second that each device reads and writes; for `upaya plan`"
    )

    @property
    def is_plain(self) -> bool:
        """Whether the stage's own process is all there is."""
        return self.processes == 1 and not self.zero

    def need_shares(self, sizes: Mapping[str, int], path: Path = CURRICULA) -> None:
        """Raises UserError where the processes cannot share out a batch. Args: sizes: of batches, by their keys."""
        for key, size in sizes.items():
            if size < self.processes:
                raise UserError(
                    f"{path}: key '{key}': {self.processes} processes cannot share out {size}; raise it to at least "
                    f"{self.processes}, or lower launch.processes"
                )


def launch_file(name: str) -> Path:
    """The file that declares a launch. Raises UserError where there is none of that name."""
    path = LAUNCHES / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in LAUNCHES.glob("*.yaml")]
        raise UserError(f"{CURRICULA}: key 'launch': no file {path}; {nearest(name, known)}")
    return path


def load_launch(name: str) -> Launch:
    """The settings of a launch. Raises UserError for an unknown name."""
    return load_yaml(launch_file(name), Launch)

"""A training stage in as many processes as declared: in its own, or in several that DeepSpeed's launcher starts.

DVC and Prefect call the same command either way, `tasks/run warmup`. Where params/curricula.yaml asks for more than one
process or for ZeRO, that command starts the launcher, passes on what it is told to stop by, and shows the error of the
process that failed first.
"""

import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.heap import HANDED_BACK, TIGHT, hand_back_memory
from tasks.line import RESUMED, Exchange, Failure, Line
from upaya.declared.curricula import Curricula
from upaya.declared.launch import Launch
from upaya.errors import UserError, in_words
from upaya.measuring.plan import is_on_gpu, share_of_memory
from upaya.paths import CURRICULA
from upaya.startup import start_as_declared
from upaya.terminal import console

LAUNCHED = "UPAYA_LAUNCHED"  # in the environment of a process that the launcher started: where the stage answers
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(arguments: Sequence[str], curricula: Curricula, launch: Launch, main: Callable[[], None]) -> None:
    """A training stage as it is declared to be launched.

    Args:
        arguments: of `python -m tasks`, for the processes that are started.
        main: the stage itself.
    """
    if LAUNCHED in os.environ:
        _as_one_of_several(main)
        return
    is_tight = share_of_memory(curricula, launch) > TIGHT and not is_on_gpu(launch)
    if launch.is_plain:
        if is_tight:
            hand_back_memory()
        start_as_declared()
        # Saving a model imports accelerate, and that imports DeepSpeed: seconds and a warning, for a process alone.
        sys.modules["deepspeed"] = None  # type: ignore[assignment]
        main()
    else:
        _need_means(launch)
        raise SystemExit(_start(launch, arguments, is_tight))


def _need_means(launch: Launch) -> None:
    """Raises UserError where this machine cannot do what is declared."""
    try:
        importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"{CURRICULA}: key 'launch': several processes need DeepSpeed: pip install deepspeed") from None
    if launch.hostfile:
        if not launch.hostfile.is_file():
            raise UserError(f"{CURRICULA}: key 'launch.hostfile': no file {launch.hostfile}")
        slots = sum(hosts(launch.hostfile).values())
        if slots != launch.processes:
            raise UserError(
                f"{CURRICULA}: key 'launch.processes': {launch.processes} processes, but {launch.hostfile} has {slots} "
                "slots; make them equal"
            )
        if not shutil.which("pdsh"):
            raise UserError(f"{CURRICULA}: key 'launch.hostfile': several nodes need pdsh, which is not installed here")
        if len(str(Path.cwd()).split()) > 1:  # the launcher hands it to the nodes' shells as it is
            raise UserError(f"{Path.cwd()}: with a hostfile the project's path must not have spaces; move the checkout")
        return
    import torch

    gpus = torch.cuda.device_count()
    have, what = (gpus, "GPUs") if gpus else (len(os.sched_getaffinity(0)), "cores")
    if launch.processes > have:
        raise UserError(
            f"{CURRICULA}: key 'launch.processes': {launch.processes} processes, but this machine has {have} {what}; "
            f"lower it to at most {have}, or name more machines by launch.hostfile"
        )


def hosts(hostfile: Path) -> dict[str, int]:
    """The slots of each host in a hostfile, `name slots=8` a line. Raises UserError."""
    slots: dict[str, int] = {}
    for number, line in enumerate(hostfile.read_text().splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        key, _, value = words[1].partition("=") if len(words) == 2 else ("", "", "")
        if key != "slots" or not value.isdigit() or words[0] in slots:
            raise UserError(f"{hostfile}, line {number}: expected a new host and its slots, as in `node-1 slots=8`")
        slots[words[0]] = int(value)
    return slots


def _start(launch: Launch, arguments: Sequence[str], is_tight: bool) -> int:
    """Run the program under the launcher; returns its exit code, once all its processes have ended."""
    exchange, asked = Exchange(launch.processes, several_nodes=launch.hostfile is not None), list[int]()
    before = {number: signal.signal(number, lambda number, frame: asked.append(number)) for number in SIGNALS}
    with tempfile.TemporaryDirectory(prefix="upaya-") as folder:
        own = {LAUNCHED: exchange.address, **worker_environment(launch), **(HANDED_BACK if is_tight else {})}
        if launch.hostfile:  # the launcher takes to the other nodes what stands in this file
            passed_on = Path(folder) / "environment"
            passed_on.write_text("".join(f"{key}={value}\n" for key, value in own.items()))
            own["DS_ENV_FILE"] = str(passed_on)
        # In a session of its own: Ctrl-C comes to this process only, which asks the others to stop one time, not twice.
        launcher = subprocess.Popen(
            launcher_command(launch, "--module", "tasks", *arguments),
            env=dict(os.environ) | own,
            start_new_session=True,
        )
        try:
            code = exchange.attend(launcher, asked)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if asked and code and not any(failure.told for failure in exchange.failures):
        print("stopped before the first step. The same command starts again.", file=sys.stderr)
        return 128 + asked[0]
    return say_why(code, exchange.failures, launch.processes)


def launcher_command(launch: Launch, *program: str) -> list[str]:
    """DeepSpeed's launcher for a program: a file, or `--module` and its name, and its arguments."""
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--no_local_rank", "--log_level", "critical"]
    if launch.hostfile:
        command += ["--hostfile", str(launch.hostfile)]
    else:
        command += ["--num_gpus", str(launch.processes), "--master_addr", "127.0.0.1"]
    return [*command, "--master_port", str(_free_port()), *program]


def worker_environment(launch: Launch) -> dict[str, str]:
    """What each process is told by its environment."""
    on_one_node = max(hosts(launch.hostfile).values()) if launch.hostfile else launch.processes
    own = {
        "OMP_NUM_THREADS": str(launch.threads or max(1, len(os.sched_getaffinity(0)) // on_one_node)),
        "PYTHONWARNINGS": "ignore::FutureWarning",  # torch's to DeepSpeed
    }
    import torch

    if not torch.cuda.is_available():
        own["DS_ACCELERATOR"] = "cpu"
    return own


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say_why(code: int, failures: Sequence[Failure], count: int) -> int:
    """Show what went wrong first; returns the exit code. Those who say only that a peer is gone are not asked."""
    if not failures:
        if code:
            print(
                f"error: one of {count} processes ended without a word (the launcher's exit code is {code}). {RESUMED}",
                file=sys.stderr,
            )
        return 1 if code else 0
    first = next((failure for failure in failures if "by peer" not in failure.message), failures[0])
    print(first.message, file=sys.stderr)
    return first.code


# --- in each of several processes -----------------------------------------------------------------------------------


def _as_one_of_several(main: Callable[[], None]) -> None:
    rank = int(os.environ["RANK"])
    console.quiet = rank > 0
    try:
        line = Line(os.environ[LAUNCHED], rank)
    except OSError as error:
        raise UserError(
            f"process {rank + 1} on {socket.gethostname()}: the stage does not answer at {os.environ['MASTER_ADDR']} "
            f"({error}). It has to be started on the first node of the hostfile, and the others have to reach its ports"
        ) from None
    try:
        start_as_declared(int(os.environ["OMP_NUM_THREADS"]))
        from upaya.training.steps import processes

        processes.join()
        main()
        processes.leave()
        line.say(ended=True)
    except Exception as error:
        said = in_words(error)
        message, code = said or (traceback.format_exc(), 1)
        line.say(message=message, code=code, known=said is not None, ended=True)
        sys.stdout.flush()
        os._exit(code)  # at once: the others may be waiting for this one

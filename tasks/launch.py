"""A training stage in as many processes as declared: in its own, or in several that DeepSpeed's launcher starts.

DVC and Prefect call the same command either way, `tasks/run warmup`. Where params/curricula.yaml asks for more than one
process or for ZeRO, that command starts the launcher, passes on what it is told to stop by, and shows the error of the
process that failed first.
"""

import contextlib
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import psutil

from upaya.declared.curricula import Curricula
from upaya.declared.launch import Launch
from upaya.errors import UserError, in_words
from upaya.measuring.plan import warn_where_it_cannot_fit
from upaya.paths import CURRICULA
from upaya.startup import start_as_declared
from upaya.terminal import console

LAUNCHED = "UPAYA_LAUNCHED"  # in the environment of a process that the launcher started: by whom
SECONDS_BETWEEN_LOOKS = 1.0


def run(arguments: Sequence[str], curricula: Curricula, launch: Launch, main: Callable[[], None]) -> None:
    """A training stage as it is declared to be launched.

    Args:
        arguments: of `python -m tasks`, for the processes that are started.
        main: the stage itself.
    """
    if LAUNCHED in os.environ:
        _as_one_of_several(main)
        return
    warn_where_it_cannot_fit(curricula, launch)
    if launch.is_plain:
        start_as_declared()
        # Saving a model imports accelerate, and that imports DeepSpeed: seconds and a warning, for a process alone.
        sys.modules["deepspeed"] = None  # type: ignore[assignment]
        main()
    else:
        _need_means(launch)
        raise SystemExit(_start(launch, arguments))


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


def _start(launch: Launch, arguments: Sequence[str]) -> int:
    """Run the program under the launcher; returns its exit code, once all its processes have ended."""
    with tempfile.TemporaryDirectory(prefix="upaya-") as folder:
        # In a session of its own: Ctrl-C comes to this process only, which asks the others to stop one time, not twice.
        launcher = subprocess.Popen(
            launcher_command(launch, "--module", "tasks", *arguments),
            env=dict(os.environ) | worker_environment(launch, Path(folder)),
            start_new_session=True,
        )

        asked: list[int] = []

        def pass_on(number: int, frame: FrameType | None) -> None:
            asked.append(number)
            workers = _workers(launcher.pid)
            for process in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            if not workers:
                os.killpg(launcher.pid, number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            code = launcher.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for process in _workers(launcher.pid):
                process.kill()
        if code and asked and not list(Path(folder).glob("*.json")):
            print("stopped before the first step. The same command starts again.", file=sys.stderr)
            return 128 + asked[0]
        return say_why(code, Path(folder), launch.processes) if code else 0


def launcher_command(launch: Launch, *program: str) -> list[str]:
    """DeepSpeed's launcher for a program: a file, or `--module` and its name, and its arguments."""
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--no_local_rank", "--log_level", "critical"]
    if launch.hostfile:
        command += ["--hostfile", str(launch.hostfile)]
    else:
        command += ["--num_gpus", str(launch.processes), "--master_addr", "127.0.0.1"]
    return [*command, "--master_port", str(_free_port()), *program]


def worker_environment(launch: Launch, errors: Path) -> dict[str, str]:
    """What each process is told by its environment. Args: errors: the folder in which one that fails says why."""
    cores = len(os.sched_getaffinity(0))
    threads = launch.threads or max(1, cores // launch.processes)
    own = {
        "UPAYA_LAUNCHED": f"{socket.gethostname()}:{os.getpid()}:{errors}",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONWARNINGS": "ignore::FutureWarning",  # torch's to DeepSpeed
    }
    import torch

    if not torch.cuda.is_available():
        own["DS_ACCELERATOR"] = "cpu"
    if launch.hostfile:  # the launcher takes to the other nodes what stands in this file
        passed_on = errors / "environment"
        passed_on.write_text("".join(f"{key}={value}\n" for key, value in own.items()))
        own["DS_ENV_FILE"] = str(passed_on)
    return own


def _workers(launcher: int) -> list[psutil.Process]:
    """The stage's processes: below the launcher, those that were given a rank."""
    workers = []
    try:
        for process in psutil.Process(launcher).children(recursive=True):
            try:
                if "RANK" in process.environ():
                    workers.append(process)
            except psutil.Error:
                continue
    except psutil.NoSuchProcess:
        pass
    return workers


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say_why(code: int, errors: Path, count: int) -> int:
    """Show what the process that failed first said, for those after it say only that it is gone."""
    told = sorted((json.loads(path.read_text()) for path in errors.glob("*.json")), key=lambda error: error["at"])
    silent = sorted(set(range(count)) - {error["rank"] for error in told})
    if not told or (silent and "by peer" in told[0]["message"]):
        which = f"process {silent[0] + 1} of {count}" if told else f"one of {count} processes"
        print(
            f"error: {which} ended without a word (the launcher's exit code is {code}): it "
            "may have been killed for want of memory; `upaya plan` says what the settings need. The same command goes "
            "on from the last checkpoint.",
            file=sys.stderr,
        )
        return 1
    first = told[0]
    own = "" if first["known"] else f"error: process {first['rank'] + 1} of {count} failed:\n"
    print(f"{own}{first['message']}", file=sys.stderr)
    return int(first["code"])


# --- in each of several processes -----------------------------------------------------------------------------------


def _as_one_of_several(main: Callable[[], None]) -> None:
    host, parent, folder = os.environ[LAUNCHED].split(":", 2)
    rank = int(os.environ["RANK"])
    console.quiet = rank > 0
    if host == socket.gethostname():
        threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    try:
        start_as_declared(int(os.environ["OMP_NUM_THREADS"]))
        from upaya.training.steps import processes

        processes.join()
        main()
        processes.leave()
    except Exception as error:
        said = in_words(error)
        message, code = said or (traceback.format_exc(), 1)
        known = said is not None
        told = {"rank": rank, "message": message, "code": code, "known": known, "at": time.monotonic()}
        errors = Path(folder)
        if errors.is_dir():
            (errors / f"{rank}.json").write_text(json.dumps(told))
        else:  # on another node
            print(f"process {rank}: {message}", file=sys.stderr)
        sys.stdout.flush()
        os._exit(code)  # at once: the others may be waiting for this one


def _end_with(parent: int) -> None:
    """End this process when the stage that started it is gone: nobody would hear it any more."""
    try:
        while psutil.Process(parent).status() != psutil.STATUS_ZOMBIE:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    except psutil.NoSuchProcess:
        pass
    os._exit(1)

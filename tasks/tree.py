"""A start and all the processes that it makes end together, whoever among them is told to stop or killed.

    python -m flows.curriculum ─ the flow itself, in a session of its own ─ tasks.repro (DVC) ─ the stage
                                 └ Prefect's server

Down the tree, whoever is told to stop tells those that it started, waits for them, and ends. Up the tree, whoever sees
that the one that started it is gone tells itself to stop. A training stage that is told to stop saves a checkpoint.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import psutil

SECONDS_TO_END = 60.0  # for a training stage to end its step and save; who is not gone then is killed
SECONDS_BETWEEN_LOOKS = 0.5
FLOW = "UPAYA_FLOW"  # in the environment of all that a flow starts: its process, and when that began
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def supervise(module: str) -> None:
    """Make this process the supervisor of a flow's module: it ends here. In the flow itself, which ends with its
    supervisor, this returns."""
    if os.environ.get(FLOW, "").partition(":")[0] == str(os.getppid()):
        end_with_parent(signal.SIGINT)
    else:
        raise SystemExit(_supervised(module, sys.argv[1:]))


def _supervised(module: str, arguments: Sequence[str]) -> int:
    """Run a module as a child in a session of its own, and end whatever is left of that session after it.

    Ctrl-C in a terminal then comes to this process alone: Prefect's server outlives the flow that reports to it. The
    flow is asked once, by SIGINT, which it knows as KeyboardInterrupt; a second signal kills.

    Returns:
        Its exit code; 128 and the signal's number where a signal came.
    """
    asked: list[int] = []
    flow: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if flow:
            flow.send_signal(signal.SIGINT) if len(asked) == 1 else _signal_group(flow.pid, signal.SIGKILL)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, pass_on)
    flow = subprocess.Popen([sys.executable, "-m", module, *arguments], env=_marked(), start_new_session=True)
    if asked:  # before there was anybody to tell
        flow.send_signal(signal.SIGINT)
    code = flow.wait()
    _end_group(flow.pid)
    if asked:
        return 128 + asked[0]
    return code if code >= 0 else 128 - code


def run(command: Sequence[str], env: dict[str, str], on_line: Callable[[str], None] | None = None) -> int:
    """Run a program to its end; its exit code. What ends this early (Ctrl-C, a cancelled flow) ends it too.

    Args:
        on_line: called with every line that it says; else it says them itself, in a terminal with its progress bar.
    """
    out, err = (subprocess.PIPE, subprocess.STDOUT) if on_line else (None, None)
    with subprocess.Popen(command, env=env, text=True, errors="replace", stdout=out, stderr=err) as process:
        try:
            if on_line and process.stdout:
                for line in process.stdout:
                    on_line(line.rstrip("\n"))
            return process.wait()
        except BaseException:
            stop(process)
            if on_line and process.stdout:
                print(process.stdout.read(), end="", flush=True)  # its last words: where it is saved
            raise


def stop(process: subprocess.Popen[str]) -> None:
    """End a program and all below it: asked first, killed where that does not help."""
    below = _below(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_END)
    for each in [*below, *_below(process.pid)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.kill()


@contextlib.contextmanager
def passing_on() -> Iterator[None]:
    """While inside, a signal to stop is passed on to those that this process has started, and they are waited for."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ending_with(part: str, message: str) -> Iterator[None]:
    """While inside, this process and all that it has started end when the child with `part` in its command line does:
    Prefect waits for a temporary server that is gone as if it came back."""
    done = threading.Event()
    threading.Thread(target=_watch_child, args=(part, message, done), name="child", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch_child(part: str, message: str, done: threading.Event) -> None:
    watched: psutil.Process | None = None
    while not done.wait(SECONDS_BETWEEN_LOOKS):
        try:
            if watched is None:
                watched = next((each for each in psutil.Process().children() if part in each.cmdline()), None)
            elif watched.status() != psutil.STATUS_ZOMBIE:
                continue
            else:
                break
        except psutil.NoSuchProcess:  # a child that ended while it was looked at
            if watched:
                break
    else:
        return
    print(message, file=sys.stderr, flush=True)
    own = psutil.Process().children()
    for child in own:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    psutil.wait_procs(own, SECONDS_TO_END)
    os._exit(1)


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Once the process that started this one is gone, or the flow above it, this one sends itself a signal."""
    threading.Thread(target=_watch, args=(os.getppid(), number), name="parent", daemon=True).start()


def _watch(parent: int, number: int) -> None:
    while os.getppid() == parent and flow_lives(os.environ.get(FLOW)):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    # Nobody reads what is said now, and a broken pipe shall not keep anybody from saving.
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
    os.kill(os.getpid(), number)
    time.sleep(SECONDS_TO_END)
    os._exit(1)


def flow_lives(mark: str | None) -> bool:
    """Whether the process of a mark in FLOW is the one that set it, and alive. Without a mark, nothing is missing."""
    if not mark:
        return True
    process, _, began = mark.partition(":")
    try:
        found = psutil.Process(int(process))
        return found.status() != psutil.STATUS_ZOMBIE and f"{found.create_time():.2f}" == began
    except psutil.NoSuchProcess:
        return False


def _marked() -> dict[str, str]:
    own = psutil.Process()
    return dict(os.environ) | {FLOW: f"{own.pid}:{own.create_time():.2f}"}


def _below(process: int) -> list[psutil.Process]:
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _end_group(group: int) -> None:
    """Ask what is left of a process group to end, and kill what does not."""
    _signal_group(group, signal.SIGTERM)
    until = time.monotonic() + SECONDS_TO_END
    while _group_lives(group) and time.monotonic() < until:
        time.sleep(0.1)
    _signal_group(group, signal.SIGKILL)


def _group_lives(group: int) -> bool:
    """Whether anybody of it is at work: one that has ended, but was not waited for, is not."""
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                return True
    return False


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)

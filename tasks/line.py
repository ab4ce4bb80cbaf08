"""The line between a training stage and its processes, on this machine or on several: signals go down, errors come up,
and each side hears that the other is there.

A node that is cut off closes no connection, and gloo and NCCL wait for it for half an hour. Whoever has not been heard
of for SECONDS_UNHEARD is taken for lost, by the stage and by the processes alike; then all of them end.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, wait
from queue import SimpleQueue
from typing import Any

SECONDS_UNHEARD = 60.0
SECONDS_TO_COME = 300.0  # from the launcher's start until every process has called, before it imports torch
SECONDS_OF_GRACE = 10.0  # from the first error until those who have said nothing by then are killed
SECONDS_BETWEEN_LOOKS = 1.0
RESUMED = "The same command goes on from the last checkpoint."


@dataclass(frozen=True)
class Failure:
    """Why a process ended. Attributes: known: the user's to mend, so that the message needs no more around it."""

    message: str
    code: int
    known: bool
    told: bool = True  # by the process itself


@dataclass
class Caller:
    """A process at the other end. Attributes: heard: when last, by this machine's monotonic clock."""

    name: str
    heard: float


class Exchange:
    """The stage's end of the lines to all its processes.

    Attributes:
        failures: why processes ended, in the order in which the stage came to know.
        came: how many processes have called.
    """

    def __init__(self, count: int, *, several_nodes: bool) -> None:
        self.count, self.came = count, 0
        self.failures: list[Failure] = []
        self._key = secrets.token_hex(16)  # a stranger's call, of whoever tries ports, is not taken for a process
        self._listener = Listener(("" if several_nodes else "127.0.0.1", 0), backlog=count, authkey=self._key.encode())
        self._calls: SimpleQueue[Connection] = SimpleQueue()
        self._lines: dict[Connection, Caller] = {}
        self._asked: list[int] = []
        self._last_beat = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """What `Line` is to be told."""
        return f"{self._listener.address[1]}:{self._key}"

    def attend(self, launcher: subprocess.Popen[bytes], asked: list[int]) -> int:
        """Pass on every signal that is added to `asked` until the launcher has ended; returns its exit code.

        Once a process has failed or is lost, the others have SECONDS_OF_GRACE to end by themselves.
        """
        begun, passed_on, ending = time.monotonic(), 0, float("inf")
        while launcher.poll() is None and time.monotonic() < ending and (self._lines or not self.failures):
            for number in asked[passed_on:]:
                self._ask(number)
                if not self.came:  # perhaps they never will: an unreachable node keeps ssh waiting
                    os.killpg(launcher.pid, number)
            passed_on = len(asked)
            self._look()
            if self.came < self.count and time.monotonic() - begun > SECONDS_TO_COME:
                missing = f"{self.count - self.came} of {self.count} processes did not start within"
                self._note(f"{missing} {SECONDS_TO_COME:.0f} s. Does ssh reach every node, and find the project there?")
            if self.failures:
                ending = min(ending, time.monotonic() + SECONDS_OF_GRACE)
        self._hear_last_words()
        self._ask(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            launcher.wait(SECONDS_OF_GRACE)  # on every node that can be reached it sees its processes gone, and ends
        with contextlib.suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
        return launcher.wait()

    def _accept(self) -> None:
        while True:
            with contextlib.suppress(AuthenticationError, EOFError, OSError):
                self._calls.put(self._listener.accept())

    def _ask(self, number: int) -> None:
        self._asked.append(number)
        for line in self._lines:
            _say(line, {"signal": number})

    def _look(self, seconds: float = SECONDS_BETWEEN_LOOKS) -> None:
        """Hear what comes within some seconds, say to everyone that the stage is there, and miss who is silent."""
        while not self._calls.empty():
            line = self._calls.get()
            self._lines[line] = Caller("a process", time.monotonic())
            self.came += 1
            for number in self._asked:
                _say(line, {"signal": number})
        for ready in wait(list(self._lines), seconds):
            assert isinstance(ready, Connection)
            self._hear(ready)
        now = time.monotonic()
        for line, caller in list(self._lines.items()):
            if now - caller.heard > SECONDS_UNHEARD:
                self._note(
                    f"{caller.name} has not been heard of for {SECONDS_UNHEARD:.0f} s: its machine, or the network "
                    f"between, seems to be down. {RESUMED}"
                )
                self._forget(line)
        if now - self._last_beat >= SECONDS_BETWEEN_LOOKS:
            self._last_beat = now
            for line in self._lines:
                _say(line, {})

    def _hear(self, line: Connection) -> None:
        caller = self._lines[line]
        try:
            said = json.loads(line.recv_bytes())
        except (EOFError, OSError):
            self._note(
                f"{caller.name} ended without a word: it may have been killed for want of memory; `upaya plan` says "
                f"what the settings need. {RESUMED}"
            )
            self._forget(line)
            return
        caller.heard = time.monotonic()
        if "rank" in said:
            caller.name = f"process {said['rank'] + 1} of {self.count} (on {said['host']})"
        if "message" in said:
            own = "" if said["known"] else f"error: {caller.name} failed:\n"
            self.failures.append(Failure(own + said["message"], said["code"], said["known"]))
        if said.get("ended"):
            self._forget(line)

    def _hear_last_words(self) -> None:
        """What was on its way when the launcher ended."""
        until = time.monotonic() + SECONDS_BETWEEN_LOOKS
        while self._lines and time.monotonic() < until:
            self._look(until - time.monotonic())

    def _note(self, message: str) -> None:
        self.failures.append(Failure(f"error: {message}", 1, known=True, told=False))

    def _forget(self, line: Connection) -> None:
        del self._lines[line]
        line.close()


class Line:
    """A process's end. A signal that comes by it, the process sends to itself; without the stage it ends at once."""

    def __init__(self, address: str, rank: int) -> None:
        """Raises OSError where the stage does not answer."""
        port, _, key = address.partition(":")
        self._connection = Client((os.environ["MASTER_ADDR"], int(port)), authkey=key.encode())
        self._saying, self._ended = threading.Lock(), False
        self.say(rank=rank, host=socket.gethostname())
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, **what: Any) -> None:
        """Tell the stage. `ended=True`: that it was the last word, after which the line may go."""
        self._ended |= "ended" in what
        with self._saying:
            _say(self._connection, what)

    def _listen(self) -> None:
        heard = time.monotonic()
        with contextlib.suppress(EOFError, OSError):
            while time.monotonic() - heard < SECONDS_UNHEARD:
                if self._connection.poll(SECONDS_BETWEEN_LOOKS):
                    said, heard = json.loads(self._connection.recv_bytes()), time.monotonic()
                    if "signal" in said:
                        os.kill(os.getpid(), said["signal"])
                self.say()
        if not self._ended:
            os._exit(1)  # nobody would hear it any more


def _say(line: Connection, what: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # who is gone is missed when it is listened to
        line.send_bytes(json.dumps(what).encode())

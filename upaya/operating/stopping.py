"""`upaya stop`: end what is at work in this checkout, with its checkpoints saved."""

import contextlib
import os
import signal
import socket
import time

from upaya.errors import UserError
from upaya.locks import Holder, holder
from upaya.operating.status import trained
from upaya.paths import EXPERIMENTS, FLOW_LOCK, WORK, work_lock
from upaya.terminal import console

PATIENCE = 120.0  # seconds; a large model's checkpoint takes a while


def stop() -> None:
    """Ask, wait, and say who has ended. Raises UserError where somebody has not."""
    if not (found := at_work()):
        console.print("nothing is at work here")
        return
    for name, by in found.items():
        if by.host != socket.gethostname():
            raise UserError(f"{name} is at work on another machine ({by}): stop it there")
        with contextlib.suppress(ProcessLookupError):
            os.kill(by.process, signal.SIGTERM)
    until = time.monotonic() + PATIENCE
    while (left := at_work()) and time.monotonic() < until:
        time.sleep(0.2)
    if left:
        raise UserError(
            f"still at work after {PATIENCE:.0f} s: {', '.join(f'{name} ({by})' for name, by in left.items())}"
        )
    console.print(f"stopped: {', '.join(found)}. The same command goes on from what is saved.")


def at_work() -> dict[str, Holder]:
    """Who holds a lock of this checkout, by what it does: the flow first, which ends its stages itself."""
    flow = holder(FLOW_LOCK)
    places = (WORK, *sorted(EXPERIMENTS.glob("*")))
    trains = {name: by for work in places for name in trained(work) if (by := holder(work_lock(name, work)))}
    return {"the flow": flow, **trains} if flow else trains

"""How a flow runs in this checkout: alone, once what an earlier one left half made is put right; to an exit code."""

import logging
import sys
from collections.abc import Callable
from typing import NoReturn

from prefect.states import Failed, State

from tasks.mending import SERVER, mended
from tasks.prefect_ui import need_server
from tasks.tree import ending_with
from upaya.errors import in_words, shown_to_user
from upaya.locks import hold
from upaya.paths import FLOW_LOCK
from upaya.terminal import console

BUSY = "another flow is at work in this checkout: it is held"


def alone(work: Callable[[], State]) -> State:
    """A flow's work, where no other flow is at work in this checkout. Failed with what is the user's to mend."""
    try:
        with hold(FLOW_LOCK, BUSY):
            for message in mended():
                console.print(message)
            return work()
    except Exception as error:  # what nobody has words for goes on
        said = in_words(error)
        if said is None:
            raise
        print(said[0], file=sys.stderr)
        return Failed(message=said[0].removeprefix("error: "))


def _without_no_error(record: logging.LogRecord) -> bool:
    """Prefect logs a state that is Failed with the error at hand; where there is none, "NoneType: None" is printed."""
    if record.exc_info and record.exc_info[0] is None:
        record.exc_info = None
    return True


def to_the_end(flow: Callable[[], State]) -> NoReturn:
    """Run a flow, and exit: 0 where it is completed."""
    with shown_to_user():
        hold(FLOW_LOCK, BUSY).close()  # whoever is too early is told so before Prefect's server starts
        need_server()
    for name in ("prefect.task_runs", "prefect.flow_runs"):
        logging.getLogger(name).addFilter(_without_no_error)
    try:
        with ending_with(SERVER, "error: Prefect's temporary server has ended. The same command goes on from there."):
            state = flow()
    except KeyboardInterrupt:
        print("stopped. The same command goes on from what is saved.", file=sys.stderr)
        raise SystemExit(130) from None
    raise SystemExit(0 if state.is_completed() else 1)

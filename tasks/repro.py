"""Bring one DVC stage up to date: `dvc repro --single-item` without its notices, but with its errors.

python -m tasks.repro policy@lenient

Ends with PASSING where the same may go well a little later: the stage was killed, or somebody else is at work with DVC.
"""

import logging
import re
import sys

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage.exceptions import StageCmdFailedError

from tasks.tree import end_with_parent, passing_on
from upaya.errors import UserError, shown_to_user

PASSING = 75  # EX_TEMPFAIL of sysexits.h


def main(address: str) -> None:
    """Raises UserError with what DVC objects to."""
    logging.getLogger("dvc").setLevel(logging.ERROR)
    end_with_parent()
    try:
        with passing_on():
            Repo().reproduce(targets=[address], single_item=True)
    except DvcException as error:
        if isinstance(error.__cause__, StageCmdFailedError):  # the stage has said itself what is wrong
            killed = re.search(r"exited with (-9|137)$", str(error.__cause__))  # SIGKILL, to it or to its shell
            if killed:
                print(f"error: {address} was killed; for want of memory, it may be (`upaya plan`)", file=sys.stderr)
            raise SystemExit(PASSING if killed else 1) from None
        if isinstance(error, LockError):
            print(f"error: somebody else is at work with DVC: {error}", file=sys.stderr)
            raise SystemExit(PASSING) from None
        raise UserError(f"DVC: {error}{f': {error.__cause__}' if error.__cause__ else ''}") from None


if __name__ == "__main__":
    with shown_to_user():
        if len(sys.argv) != 2:
            raise UserError("usage: python -m tasks.repro STAGE")
        main(sys.argv[1])

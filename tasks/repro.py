"""Bring one DVC stage up to date: `dvc repro --single-item` without its notices, but with its errors.

python -m tasks.repro policy@lenient

What a stage made is noted in dvc.lock before it is put into DVC's cache: where the disk is full then, hours of work are
not done again, but put there by the next start.

Ends with PASSING where the same may go well a little later: the stage was killed, or somebody else is at work with DVC.
"""

import logging
import re
import sys
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage.exceptions import StageCmdFailedError

from tasks.tree import end_with_parent, passing_on
from upaya.errors import UserError, shown_to_user

PASSING = 75  # EX_TEMPFAIL of sysexits.h


def path_and_name(address: str) -> tuple[str, str | None]:
    return (address, None) if address.endswith(".dvc") else ("dvc.yaml", address)


def main(address: str) -> None:
    """Raises UserError with what DVC objects to."""
    logging.getLogger("dvc").setLevel(logging.ERROR)
    end_with_parent()
    try:
        if not _is_made(address):
            with passing_on():
                Repo().reproduce(targets=[address], single_item=True, no_commit=True)
        _cache(address)
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


def _is_made(address: str) -> bool:
    """Whether all is as dvc.lock has it, but for the cache."""
    repo = Repo()
    with repo.lock:
        stage = _stage(repo, address)
        changed = stage.changed_stage() or stage.changed_deps()
        return not changed and not any(out.workspace_status() or not out.hash_info for out in stage.outs)


def _cache(address: str) -> None:
    """Put what a stage made, and dvc.lock knows, into DVC's cache. Raises UserError where that cannot be written."""
    repo = Repo()
    try:
        with repo.lock:
            _stage(repo, address).commit()
    except OSError as error:
        raise UserError(
            f"{address} is done, and what it made is whole and noted in dvc.lock; but DVC could not put it into its "
            f"cache ({error.strerror or error}). Free some space there, or make it writable, and start again: then "
            "only that is done"
        ) from None


def _stage(repo: Repo, address: str) -> Any:
    return repo.stage.load_one(*path_and_name(address))


if __name__ == "__main__":
    with shown_to_user():
        if len(sys.argv) != 2:
            raise UserError("usage: python -m tasks.repro STAGE")
        main(sys.argv[1])

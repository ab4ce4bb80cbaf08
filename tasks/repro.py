"""Bring one DVC stage up to date: `dvc repro --single-item` without its notices, but with its errors.

python -m tasks.repro policy@lenient
"""

import logging
import sys

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage.exceptions import StageCmdFailedError

from upaya.errors import UserError, shown_to_user


def main(address: str) -> None:
    """Raises UserError with what DVC objects to."""
    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        Repo().reproduce(targets=[address], single_item=True)
    except DvcException as error:
        if isinstance(error.__cause__, StageCmdFailedError):  # the stage has said itself what is wrong
            raise SystemExit(1) from None
        raise UserError(f"DVC: {error}{f': {error.__cause__}' if error.__cause__ else ''}") from None


if __name__ == "__main__":
    with shown_to_user():
        if len(sys.argv) != 2:
            raise UserError("usage: python -m tasks.repro STAGE")
        main(sys.argv[1])

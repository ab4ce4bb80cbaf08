"""What Prefect's UI shows of a run beside its states: the stages' lines, how far a stage is, what came of it.

A view: whatever fails here costs what is shown, never the run. Without a server of one's own (`make run`) nobody could
look at it afterwards, and nothing is told.
"""

import base64
import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx
import prefect.logging
from prefect.artifacts import (  # called without `await` where no loop runs: at once
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.settings import get_current_settings

from upaya.errors import UserError
from upaya.terminal import Reached, console

LARGEST_PICTURE = 500_000  # bytes that go into an artifact


def served() -> str | None:
    """The address of the server that a run is told to; None where it is a temporary one."""
    return get_current_settings().api.url


def need_server() -> None:
    """Raises UserError where the server that Prefect's profile or environment names does not answer."""
    if not (address := served()):
        return
    try:
        httpx.get(f"{address}/health", timeout=5).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(
            f"Prefect's server at {address} does not answer ({type(error).__name__}): start it (`prefect server "
            "start`), or do without: `prefect config unset PREFECT_API_URL`, and unset the variable of that name"
        ) from None
    theirs = httpx.get(f"{address}/admin/version", timeout=5).json()
    if theirs != prefect.__version__:
        console.print(f"Prefect's server at {address} is of version {theirs}, this is {prefect.__version__}")


class Lines:
    """A stage's lines as they come, for its task run's log and its progress artifact."""

    def __init__(self, name: str, reached: Callable[[], Reached | None]) -> None:
        self.name, self.reached = name, reached
        self.last: list[str] = []
        self._logger = prefect.logging.get_run_logger()
        self._artifact: UUID | None = None
        self._shown: Reached | None = None

    def __call__(self, line: str) -> None:
        self._logger.info(line)
        self.last = [*self.last, line][-20:]
        now = self.reached()
        if now and now != self._shown:
            self._shown = now
            with _view():
                self._show(now)

    def _show(self, now: Reached) -> None:
        said = f"{self.name}: {now.unit} {now.done} of {now.total}  {now.note}"
        share = 100 * now.done / max(now.total, 1)
        if self._artifact is None:
            made = create_progress_artifact(share, _key(f"progress-{self.name}"), said)
            self._artifact = made if isinstance(made, UUID) else None
        else:
            update_progress_artifact(self._artifact, share, said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._artifact and error[0] is None and self._shown and not self.reached():  # published: all done
            with _view():
                update_progress_artifact(self._artifact, 100.0, f"{self.name}: published")


def tell_results(name: str, rows: Sequence[dict[str, Any]], picture: Path | None, links: dict[str, str]) -> None:
    """What a flow came to: a table, a picture, links. Args: name: of the policy or the comparison."""
    if not served():
        return
    with _view():
        create_table_artifact(table=list(rows), key=_key(f"results-{name}"), description=f"What came of {name}")
        if picture and picture.is_file() and picture.stat().st_size <= LARGEST_PICTURE:
            content = base64.b64encode(picture.read_bytes()).decode()
            create_image_artifact(f"data:image/png;base64,{content}", _key(f"curve-{name}"), f"The curve of {name}")
        for text, link in links.items():
            create_link_artifact(link, text, _key(f"{text}-{name}"), text)


@contextlib.contextmanager
def _view() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        prefect.logging.get_logger("upaya").warning("Prefect's server did not take what was to be shown: %s", error)


def _key(text: str) -> str:
    """An artifact's key: lowercase letters, digits, dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")

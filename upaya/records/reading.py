"""Files that stages write, read by others: of the type that they have, or a message that names file, line and key."""

import csv
import io
import json
from collections.abc import Container
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from upaya.errors import UserError
from upaya.files import read_bytes, read_text

T = TypeVar("T")

# What a file holds stays plain dicts, as its stage wrote them: a TypedDict says what is in them, under this.
written = with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
finite = with_config(ConfigDict(allow_inf_nan=False))  # where it says itself what else there is (PEP 728)
beside = with_config(ConfigDict(extra="allow"))

Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
Count = Annotated[int, Field(ge=0)]


def flow(policy: str) -> str:
    """The command that makes the files of a policy, and its evaluation, where they are not as they should be."""
    return f"`python -m flows.curriculum {policy}`"


def read_file(path: Path, kind: type[T], maker: str) -> T:
    """A JSON file as `kind`.

    Args:
        maker: the command that makes the file, for the message.

    Raises:
        UserError: it is missing, not JSON, or not of this type.
    """
    return parsed(_content(path, maker), kind, path, maker)


def read_lines(path: Path, kind: type[T], maker: str) -> list[T]:
    """A file of JSON lines, each as `kind`; line n stands at n − 1. Args and errors: as `read_file`."""
    lines = _content(path, maker).splitlines()
    return [parsed(line, kind, path, maker, number) for number, line in enumerate(lines, start=1)]


def parsed(text: str | bytes, kind: type[T], path: Path | str, maker: str, line: int | None = None) -> T:
    """JSON as `kind`. Args: line: of the file, where the text is one of several. Raises UserError."""
    try:
        return _adapter(kind).validate_json(text, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
    if detail["type"] == "json_invalid":
        what, _, at = detail["msg"].removeprefix("Invalid JSON: ").partition(" at line ")
        raise damaged(path, line or int(at.split()[0]), f"not JSON ({what})", maker)
    raise damaged(path, line, _explained(detail, json.loads(text)), maker)


def read_rows(path: Path, kind: type[T], maker: str, words: Container[str]) -> list[T]:
    """A CSV file with a header, each row as `kind`: an empty cell is None, except in the columns of words. Args and
    errors: as `read_file`."""
    _content(path, maker)  # whether it is there
    rows = csv.DictReader(io.StringIO(read_text(path)))
    found = []
    for row in rows:
        cells = {key: value if value or key in words else None for key, value in row.items()}
        try:
            found.append(_adapter(kind).validate_python(cells))  # type: ignore[arg-type]
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            raise damaged(path, rows.line_num, _explained(detail, cells), maker) from None
    if not found:
        raise damaged(path, None, "it holds no row", maker)
    return found


def damaged(path: Path | str, line: int | None, what: str, maker: str) -> UserError:
    """The error that says of a file that a stage wrote what is wrong with it now."""
    place = f"{path}, line {line}" if line else path
    return UserError(f"{place}: {what}. It was changed or damaged after it was written: {maker} makes it again")


def _content(path: Path, maker: str) -> bytes:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not there yet; {maker} makes it") from None


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    """Building one takes longer than reading a line by it."""
    return TypeAdapter(kind)


def _explained(detail: Any, node: Any) -> str:
    """Where in a value something is wrong, and what. Of the location, what is a key or a place in the value: pydantic
    names the members of a union there too."""
    keys = []
    for part in detail["loc"]:
        if (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int)):
            node = node[part]
            keys.append(str(part))
    if detail["type"] == "missing":
        return f"key {'.'.join([*keys, str(detail['loc'][-1])])!r} is missing"
    message = detail["msg"].removeprefix("Value error, ")
    shown = f" (it is {node!r})" if isinstance(node, str | int | float | bool | None) else ""
    return f"key {'.'.join(keys)!r}: {message}{shown}" if keys else f"{message}{shown}"

"""Files that are whole or absent: atomic writes, hashes, JSON and JSON lines."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from upaya.errors import UserError


def fsync_path(path: Path) -> None:
    """Force a file's or folder's content to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path, within: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes its name in one step, on failure it is removed.

    Works for a file (write to the yielded path) and for a folder (create the yielded path).

    Args:
        within: the folder that a folder to be replaced lies in; without it none is replaced.

    Raises:
        UserError: `path` is a folder, and not one directly in `within`.
    """
    if within is not None:
        need_child(path, within)
    elif path.is_dir():
        raise UserError(f"{path} is a folder where a file is to be written; move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    _remove(partial)
    try:
        yield partial
        for part in sorted(partial.rglob("*")) if partial.is_dir() else [partial]:
            fsync_path(part)
        if path.is_dir():  # rename does not replace a folder that holds something
            _remove(path)
        partial.replace(path)
        fsync_path(path.parent)
    except BaseException as error:
        _remove(partial)
        number = re.search(r"\(os error (\d+)\)", str(error))  # safetensors tells a system error as its text only
        if number and type(error).__name__ == "SafetensorError":
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
        raise


def need_writable(folder: Path) -> None:
    """Raises OSError where nothing can be written into a folder: said before hours of work, not after them."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def remove_folder(path: Path, within: Path) -> None:
    """Remove a folder directly in `within`. Raises UserError for any other."""
    need_child(path, within)
    _remove(path)


def need_child(path: Path, within: Path) -> None:
    """Raises UserError unless `path` is the path of something directly in `within`: what is about to be replaced or
    removed shall not lie elsewhere, whatever the name that its path was made of."""
    if path.name in ("", "..") or path.parent.resolve() != within.resolve():
        raise UserError(f"{path} does not lie in {within}: it is neither replaced nor removed")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def dumps(value: Any) -> str:
    """JSON on one line with the text's own characters; the same value always gives the same bytes."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    write_text(path, "".join(dumps(row) + "\n" for row in rows))


def is_there(path: Path) -> bool:
    """Whether anything has this name. A link to nothing or to itself does, and reading it says so; `Path.exists` takes
    it for a file that was left out."""
    return os.path.lexists(path)


def read_bytes(path: Path) -> bytes:
    """What is in a file. Raises UserError for a pipe or a device, which may never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is a pipe, a socket or a device where a file is expected; put a file in its place")
    return path.read_bytes()


def read_text(path: Path) -> str:
    """A file's text; an absent file or invalid UTF-8 is the user's to mend, so the message names file and line."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: invalid UTF-8 (byte 0x{data[error.start]:02x}). Save the file as UTF-8."
        ) from None


def is_encodable(text: str) -> bool:
    """Whether a text is whole characters: an escape can write half a one (a lone surrogate), which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def loads(text: str) -> Any:
    """JSON as its standard has it, and each key once. Raises ValueError in words, a JSONDecodeError with its line."""
    try:
        value = json.loads(text, object_pairs_hook=_each_key_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if "\\u" in text and not is_encodable(dumps(value)):
        raise ValueError("a text in it holds half a character, a lone \\ud800 to \\udfff")
    return value


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return value


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _not_json(path: Path, error: ValueError, line: int | None = None) -> UserError:
    line = error.lineno if isinstance(error, json.JSONDecodeError) and line is None else line
    place = f"{path}, line {line}" if line else str(path)
    return UserError(f"{place}: not JSON ({getattr(error, 'msg', error)})")


def read_json(path: Path) -> Any:
    try:
        return loads(read_text(path))
    except ValueError as error:
        raise _not_json(path, error) from None


def read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line number from 1, value) for every non-empty line."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                yield number, loads(line)
            except ValueError as error:
                raise _not_json(path, error, number) from None


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(*paths: Path) -> str:
    """One hash over files and folders: relative names and contents, in sorted order."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" in file.parts:
                continue
            digest.update(f"{file.relative_to(path.parent)}\0{sha256_file(file)}\0".encode())
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """A short hash of anything that JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]

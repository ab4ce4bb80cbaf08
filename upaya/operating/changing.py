"""Changes to params/ that are shown before they are made, with the files' comments kept."""

import difflib
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from upaya.files import write_text
from upaya.terminal import console


def changed(path: Path, change: Callable[[Any], object]) -> str:
    """A YAML file's text once `change` has had its content."""
    content = _yaml().load(path.read_text())
    change(content)
    return _written(content)


def new(content: Mapping[str, Any]) -> str:
    """The text of a YAML file that there was none of."""
    return _written(dict(content))


def in_one_line(content: Any) -> Any:
    """A list or a mapping that is written in one line."""
    made = CommentedMap(content) if isinstance(content, Mapping) else CommentedSeq(content)
    made.fa.set_flow_style()
    return made


def show(texts: Mapping[Path, str]) -> None:
    """Print how files would differ from what they are."""
    for path, text in texts.items():
        before = path.read_text().splitlines(keepends=True) if path.is_file() else []
        after = text.splitlines(keepends=True)
        diff = difflib.unified_diff(before, after, f"{path} as it is", f"{path} as it will be")
        console.print("".join(diff), markup=False, highlight=False, end="")


def write(texts: Mapping[Path, str]) -> None:
    for path, text in texts.items():
        write_text(path, text)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 200, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _written(content: Any) -> str:
    out = StringIO()
    _yaml().dump(content, out)
    return out.getvalue()

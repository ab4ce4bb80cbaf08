"""Declared files (params/, corpus/) against their pydantic models, with errors that name file and key."""

import re
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from upaya.errors import UserError, nearest
from upaya.files import read_text

T = TypeVar("T")


class Declared(BaseModel):
    """Base of everything declared in a file: unknown keys are errors, values don't change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as text and silently lets the last of two equal keys win; both surprise, so neither here."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} stands here twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> Any:
    """A YAML file's content; a syntax error or a repeated key becomes a UserError with file and line."""
    try:
        return yaml.load(read_text(path), _Loader)  # the loader above is a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML ({error.problem})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({error})") from None


def validated(model: type[T], data: Any, where: str) -> T:
    """`data` as `model`. Raises one UserError that lists every problem with its key, the closest right key where one
    is unknown, and what was expected where a value is of the wrong type."""
    try:
        return TypeAdapter(model).validate_python(data)
    except ValidationError as error:
        problems = [f"{where}: {_explained(model, detail)}" for detail in error.errors(include_url=False)]
        raise UserError("\n       ".join(problems)) from None


def load_yaml(path: Path, model: type[T]) -> T:
    return validated(model, read_yaml(path), str(path))


def _explained(model: Any, detail: Any) -> str:
    location = [part for part in detail["loc"] if not str(part).startswith("function-")]
    key = ".".join(str(part) for part in location) or "the file"
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {nearest(str(location[-1]), _fields_at(model, location[:-1]))}"
    if detail["type"] == "missing":
        return f"key {key!r} is missing"
    message = detail["msg"].removeprefix("Value error, ")
    value = detail.get("input")
    shown = f" (it is {value!r})" if isinstance(value, str | int | float | bool | None) else ""
    return f"key {key!r}: {message[0].lower()}{message[1:]}{shown}"


def _fields_at(model: Any, location: list[Any]) -> list[str]:
    """The keys that a model declares at a location of its tree; found by walking the annotations."""
    models = [model]
    for part in location:
        step: list[Any] = []
        for candidate in models:
            fields = getattr(candidate, "model_fields", {})
            step.append(fields[part].annotation if part in fields else candidate)
        models = [leaf for annotation in step for leaf in _models_in(annotation)]
    return sorted({name for leaf in models for name in getattr(leaf, "model_fields", {})})


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = get_args(annotation)
    return [leaf for part in inner for leaf in _models_in(part)]

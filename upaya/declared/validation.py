"""Declared files (params/, corpus/) against their pydantic models, with errors that name file and key."""

import math
import re
import reprlib
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from upaya.errors import UserError, nearest
from upaya.files import is_encodable, read_text

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

LONGEST_NAME = 64
DEEPEST = 64  # nesting of a file
BOOLEAN = "tag:yaml.org,2002:bool"


def _name(also: str, among: str) -> AfterValidator:
    """Names become paths, words of a command line and keys of MLflow and DVC.

    Args:
        also: characters beside the plain ones.
        among: what a name may go on with, in words.
    """
    pattern = re.compile(f"[A-Za-z0-9][A-Za-z0-9_{also}-]{{0,{LONGEST_NAME - 1}}}")

    def checked(name: str) -> str:
        if not pattern.fullmatch(name):
            raise ValueError(
                f"{name[: LONGEST_NAME + 1]!r} is no name: a name begins with a letter or digit of ASCII, goes on with "
                f"letters, digits, {among} and has at most {LONGEST_NAME} characters"
            )
        return name

    return AfterValidator(checked)


Name = Annotated[str, _name("", "- and _")]  # of a policy, a regime, a kind of questions

FileName = Annotated[str, _name(".", "-, _ and .")]  # of a file below params/, without its ending

QuestionId = Annotated[str, _name(".:", "-, _, . and :")]


LARGEST = 2**63  # whole numbers are counted with by machines
MOST = 1_000_000  # of what is held or made at once: beyond it is a slip of the keyboard, not a machine

Size = Annotated[int, Field(gt=0, le=MOST)]
Amount = Annotated[float, Field(ge=0, le=MOST)]  # of reward
Seed = Annotated[int, Field(ge=0, lt=LARGEST)]
Betas = Annotated[  # of AdamW: what its two means keep of the past at each step
    tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]], Field(strict=False)
]  # YAML has lists


class Declared(BaseModel):
    """Base of everything declared in a file: unknown keys are errors, `true` is no number, numbers are finite, values
    don't change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as text, the words on, off, yes and no as booleans, and silently lets the last of two equal
    keys win; all of it surprises, and DVC reads the same files otherwise, so none of it here.

    Nor what no file of a person's holds, and what is made of a file could not bear: nesting without end, a value that
    stands in itself, aliases that multiply, a list as a key, half a character.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}  # of composed nodes, with what their aliases stand for

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEEPEST} deep", problem_mark=mark)
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if is_alias and id(node) not in self._sizes:
            raise yaml.MarkedYAMLError(problem="an alias of what it stands in itself", problem_mark=mark)
        self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in _parts(node))
        if self._sizes[id(node)] > MOST:
            raise yaml.MarkedYAMLError(problem=f"more than {MOST} values, by its aliases", problem_mark=mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, OverflowError):  # of PyYAML's converters, which have no words
            kind = node.tag.rpartition(":")[2]
            shown = reprlib.repr(node.value) if isinstance(node, yaml.ScalarNode) else "this"
            raise yaml.MarkedYAMLError(problem=f"{shown} is no {kind}", problem_mark=node.start_mark) from None
        if isinstance(value, str) and not is_encodable(value):
            raise yaml.MarkedYAMLError(problem=f"{value!r} holds half a character", problem_mark=node.start_mark)
        return value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = int(super().construct_yaml_int(node))
        if abs(value) >= LARGEST:
            raise yaml.MarkedYAMLError(problem=f"{node.value} is out of range", problem_mark=node.start_mark)
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value = float(super().construct_yaml_float(node))
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(problem=f"{node.value} is no finite number", problem_mark=node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is one word", problem_mark=key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} stands here twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parts(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return chain.from_iterable(node.value)
    return node.value if isinstance(node, yaml.SequenceNode) else ()


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(BOOLEAN, re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
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


def validated(model: type[T], data: Any, where: str, elsewhere: Mapping[str, str] | None = None) -> T:
    """`data` as `model`.

    Args:
        elsewhere: as for `load_keys`: where the file has a field of the model.

    Raises:
        UserError: lists every problem with its key, the closest right key where one is unknown, and what was expected
            where a value is of the wrong type.
    """
    try:
        return _adapter(model).validate_python(data)  # type: ignore[arg-type]
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [f"{where}: {_explained(model, detail, elsewhere or {})}" for detail in details]
        raise UserError("\n       ".join(problems)) from None


@cache
def _adapter(model: type[T]) -> TypeAdapter[T]:
    """Building one takes longer than validating a question by it."""
    return TypeAdapter(model)


def load_yaml(path: Path, model: type[T]) -> T:
    return validated(model, read_yaml(path), str(path))


def load_keys(path: Path, model: type[M], **elsewhere: str) -> M:
    """Those keys of a YAML file that `model` has fields for; the others are not looked at.

    A stage takes its parameters by this, with a model of just the keys that dvc.yaml names for it: what it does not
    declare, it cannot read.

    Args:
        elsewhere: for a field that lies deeper in the file, its dotted key there.

    Raises:
        UserError: as `validated`, with the keys as the file has them.
    """
    content = read_yaml(path)
    chosen = {}
    for field in model.model_fields:
        *parents, last = elsewhere.get(field, field).split(".")
        node = content
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise UserError(f"{path}: {'.'.join(parents) or 'the file'} is no mapping of keys to values")
        if last in node:
            chosen[field] = node[last]
        elif parents:
            raise UserError(f"{path}: key {'.'.join(parents)!r}: no {last!r}; {nearest(last, map(str, node))}")
    return validated(model, chosen, str(path), elsewhere)


def _explained(model: Any, detail: Any, elsewhere: Mapping[str, str]) -> str:
    location, siblings = _walked(model, [part for part in detail["loc"] if not str(part).startswith("function-")])
    location[:1] = [elsewhere.get(part, part) for part in location[:1]]
    key = ".".join(part for part in location if part != "[key]")  # pydantic's mark for what is wrong with a key itself
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {nearest(location[-1], siblings)}"
    if detail["type"] == "missing":
        return f"key {key!r} is missing"
    if detail["type"] == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in detail["ctx"]["expected_tags"].split(",")]
        return f"key '{key}.type': unknown type {detail['ctx']['tag']!r}; {nearest(detail['ctx']['tag'], tags)}"
    message = detail["msg"].removeprefix("Value error, ")
    if not key and detail["type"].endswith("_type"):  # a file of another kind, or an empty one
        return f"expected a {'list' if detail['type'] == 'list_type' else 'mapping of keys to values'}, this is " + (
            "empty" if detail["input"] is None else f"{reprlib.repr(detail['input'])}"
        )
    if not key:  # said of the file as a whole
        return message
    value = detail.get("input")
    shown = f" (it is {value!r})" if isinstance(value, str | int | float | bool | None) else ""
    return f"key {key!r}: {message[0].lower()}{message[1:]}{shown}"


def _walked(model: Any, location: list[Any]) -> tuple[list[str], list[str]]:
    """A problem's location as the file has it, without the tags by which pydantic names the members of a union, and
    the keys that are known beside its last part."""
    here, shown, siblings = [model], [], []
    for part in location:
        here = [leaf for annotation in here for leaf in _leaves(annotation)]
        models = [leaf for leaf in here if isinstance(leaf, type) and issubclass(leaf, BaseModel)]
        siblings = sorted({field.alias or name for leaf in models for name, field in leaf.model_fields.items()})
        containers = [leaf for leaf in here if get_origin(leaf) in (dict, list)]
        named = [field.annotation for leaf in models for name, field in leaf.model_fields.items()
                 if part in (name, field.alias)]  # fmt: skip
        tagged = [leaf for leaf in models if part in _tags(leaf)]
        if tagged and not named:
            here = tagged
            continue
        shown.append(str(part))
        here = named or [get_args(leaf)[-1] for leaf in containers]
    return shown, siblings


def _leaves(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, unions and Annotated taken apart."""
    if get_origin(annotation) is Annotated:
        return _leaves(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [leaf for part in get_args(annotation) for leaf in _leaves(part)]
    return [annotation]


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """What pydantic may call a member of a union: its `type`, or its own name where it has none."""
    kind = model.model_fields.get("type")
    return get_args(kind.annotation) if kind else (model.__name__, model.__name__.lower())

"""data.dvc: where `data` comes from, and its hash, as DVC writes them. DVC itself reads it on trust."""

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from upaya.declared.validation import read_yaml, validated
from upaya.paths import DATA_POINTER
from upaya.records.reading import beside


@beside
class Place(TypedDict):
    path: str
    md5: NotRequired[str]


Places = Annotated[list[Place], Field(min_length=1)]


@beside
class Pointer(TypedDict):
    deps: Places
    outs: Places


def pointer() -> Pointer:
    """Raises UserError where it is missing or damaged."""
    return validated(Pointer, read_yaml(DATA_POINTER), str(DATA_POINTER))

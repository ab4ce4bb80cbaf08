"""An imported text: corpus/texts/NAME/ with passages.jsonl, manifest.json and faults.txt.

A passage is a paragraph of plain Traditional text, its printed lines joined without anything between them, that knows
where each of them began: whatever stands in it can be cited by page, column and line.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, NonNegativeInt, PlainValidator, TypeAdapter, model_validator, with_config

from upaya.declared.validation import Declared, validated
from upaya.errors import UserError
from upaya.files import dumps, read_json, replacing, sha256_file, write_json, write_text
from upaya.records.reading import read_lines

PASSAGES = "passages.jsonl"
MANIFEST = "manifest.json"
FAULTS = "faults.txt"

MISSING = "〓"  # printers set it for a character that they have no type for
BETWEEN_VERSES = "　"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Lines(NamedTuple):
    """The printed lines of a text, in JSON pairs. Two lists and no list of pairs: of a canon's 86 000 lines these would
    be as many objects more, for Python's collector of cycles to walk through.

    Attributes:
        starts: where each of them begins in the text.
        places: their references.
    """

    starts: list[int]
    places: list[str]

    def between(self, begins: int, ends: int) -> "Lines":
        """Those of a part of the text."""
        here = slice(bisect_left(self.starts, begins), bisect_left(self.starts, ends))
        return Lines([start - begins for start in self.starts[here]], self.places[here])

    def pairs(self) -> list[tuple[int, str]]:
        return list(zip(self.starts, self.places, strict=True))


_PAIRS = TypeAdapter(Annotated[list[tuple[NonNegativeInt, str]], Field(min_length=1)])


def _of_pairs(pairs: object) -> Lines:
    if isinstance(pairs, Lines):
        return pairs
    starts, places = zip(*_PAIRS.validate_python(pairs), strict=True)
    return Lines(list(starts), list(places))


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph. It is validated where it is read, not where an importer makes it: for a canon that would take longer
    than all the rest.

    Attributes:
        text: without white space, but for one ideographic space between the lines of verse and one space between the
            words of a script that has it.
        fascicle: 卷, from 1.
        place: the reference of its first printed line: "T27n1545_p0104c05", work, page, column and line; in plain text
            "file.txt:12".
        lines: the printed lines in it; the first begins at 0.
        source: the input file and its line where the passage begins, "KR6l0010_021.txt:20".
        verse: whether it is a verse.
        heading: the last heading above it in its fascicle, "" where there is none.
    """

    text: Annotated[str, Field(min_length=1)]
    fascicle: Annotated[int, Field(gt=0)]
    place: str
    lines: Annotated[Lines, PlainValidator(_of_pairs)]
    source: str
    verse: bool = False
    heading: str = ""

    @model_validator(mode="after")
    def lines_in_order(self) -> Self:
        starts = self.lines.starts
        if starts[0] != 0 or any(a >= b for a, b in zip(starts, [*starts[1:], len(self.text)], strict=True)):
            raise ValueError("`lines` must begin at 0, rise, and stay within the text")
        if self.place != self.lines.places[0]:
            raise ValueError("`place` must be the reference of the first line")
        return self

    def at(self, offset: int) -> str:
        """The reference of the printed line in which the character at `offset` of the text stands.

        Raises IndexError for an offset outside the text.
        """
        if not 0 <= offset < len(self.text):
            raise IndexError(f"{self.place}: no character at {offset}; the text has {len(self.text)}")
        return self.lines.places[bisect_right(self.lines.starts, offset) - 1]

    def row(self) -> dict[str, Any]:
        """As its line of the file has it."""
        always = {"text": self.text, "fascicle": self.fascicle, "place": self.place, "lines": self.lines.pairs()}
        at_times = {"verse": self.verse, "heading": self.heading}
        return always | {"source": self.source} | {key: value for key, value in at_times.items() if value}


class TextCounts(Declared):
    """How much there is of it. Attributes: lines: printed ones. characters: of all passages."""

    fascicles: int
    passages: int
    lines: int
    characters: int


class Manifest(Declared):
    """manifest.json.

    Attributes:
        works: id → title.
        edition: as the files name it.
        licence: as the source states it.
        files: input file, relative to the folder it was imported from → SHA-256.
        sha256: of passages.jsonl.
        faults: kind → how many; each of them is a line of faults.txt.
    """

    importer: Literal["kanripo", "cbeta", "text"]
    works: dict[str, str]
    edition: str
    licence: str
    files: dict[str, Sha256]
    sha256: Sha256
    counts: TextCounts
    faults: dict[str, int]


def write_passages(
    folder: Path, passages: Sequence[Passage], named_faults: Sequence[str], within: Path, **said: object
) -> Manifest:
    """An import as a whole, or nothing of it, in place of one that is there.

    Args:
        folder: directly in `within`.
        named_faults: a line each.
        said: the manifest's fields but `counts` and `sha256`.
    """
    with replacing(folder, within=within) as partial:
        partial.mkdir(parents=True)
        write_text(partial / PASSAGES, "".join(dumps(passage.row()) + "\n" for passage in passages))
        write_text(partial / FAULTS, "".join(line + "\n" for line in named_faults))
        sha256 = sha256_file(partial / PASSAGES)
        manifest = validated(Manifest, {**said, "counts": _counts(passages), "sha256": sha256}, str(folder / MANIFEST))
        write_json(partial / MANIFEST, manifest.model_dump())
    return manifest


def _counts(passages: Sequence[Passage]) -> TextCounts:
    return TextCounts(
        fascicles=len({(passage.place.partition("_")[0], passage.fascicle) for passage in passages}),
        passages=len(passages),
        lines=sum(len(passage.lines.starts) for passage in passages),
        characters=sum(len(passage.text) for passage in passages),
    )


def read_manifest(folder: Path) -> Manifest:
    """Raises UserError where the folder holds no import."""
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{folder} is no imported text (it has no {MANIFEST}); `upaya import --help` shows how one is made"
        )
    return validated(Manifest, read_json(folder / MANIFEST), str(folder / MANIFEST))


def read_passages(folder: Path) -> list[Passage]:
    """The passages of an import, in the text's order.

    Raises:
        UserError: there is no import, or its passages are not those that its manifest was written for.
    """
    manifest, file = read_manifest(folder), folder / PASSAGES
    if not file.is_file():
        raise UserError(f"{file}: no such file, though {MANIFEST} tells of it; import the text anew")
    if sha256_file(file) != manifest.sha256:
        raise UserError(
            f"{file} is not what was imported: its SHA-256 differs from the one in {MANIFEST}. Import the text anew "
            "rather than edit it: places and offsets are counted in it"
        )
    return read_lines(file, Passage, "`upaya import`")

"""An imported text: corpus/texts/NAME/ with passages.jsonl, manifest.json and faults.txt.

A passage is a paragraph of plain Traditional text, its printed lines joined without anything between them, that knows
where each of them began: whatever stands in it can be cited by page, column and line.
"""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from upaya.declared.validation import Declared, validated
from upaya.errors import UserError
from upaya.files import dumps, read_json, read_jsonl, replacing, sha256_file, write_json, write_text

PASSAGES = "passages.jsonl"
MANIFEST = "manifest.json"
FAULTS = "faults.txt"

MISSING = "〓"  # printers set it for a character that they have no type for
BETWEEN_VERSES = "　"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


Line = Annotated[tuple[NonNegativeInt, str], Field(strict=False)]  # JSON has lists


class Passage(Declared):
    """A paragraph.

    Attributes:
        text: without white space, but for one ideographic space between the lines of verse and one space between the
            words of a script that has it.
        fascicle: 卷, from 1.
        place: the reference of its first printed line: "T27n1545_p0104c05", work, page, column and line; in plain text
            "file.txt:12".
        lines: of each printed line in it, where it begins in `text` and its reference; the first begins at 0.
        source: the input file and its line where the passage begins, "KR6l0010_021.txt:20".
        verse: whether it is a verse.
        heading: the last heading above it in its fascicle, "" where there is none.
    """

    text: str = Field(min_length=1)
    fascicle: int = Field(gt=0)
    place: str
    lines: list[Line] = Field(min_length=1)
    source: str
    verse: bool = Field(default=False, exclude_if=lambda value: not value)
    heading: str = Field(default="", exclude_if=lambda value: not value)

    @model_validator(mode="after")
    def lines_in_order(self) -> Self:
        starts = [start for start, _ in self.lines]
        if starts[0] != 0 or any(a >= b for a, b in zip(starts, [*starts[1:], len(self.text)], strict=True)):
            raise ValueError("`lines` must begin at 0, rise, and stay within the text")
        if self.place != self.lines[0][1]:
            raise ValueError("`place` must be the reference of the first line")
        return self

    def at(self, offset: int) -> str:
        """The reference of the printed line in which the character at `offset` of the text stands.

        Raises IndexError for an offset outside the text.
        """
        if not 0 <= offset < len(self.text):
            raise IndexError(f"{self.place}: no character at {offset}; the text has {len(self.text)}")
        return self.lines[bisect_right(self.lines, offset, key=lambda line: line[0]) - 1][1]


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
        write_text(partial / PASSAGES, "".join(dumps(passage.model_dump()) + "\n" for passage in passages))
        write_text(partial / FAULTS, "".join(line + "\n" for line in named_faults))
        sha256 = sha256_file(partial / PASSAGES)
        manifest = validated(Manifest, {**said, "counts": _counts(passages), "sha256": sha256}, str(folder / MANIFEST))
        write_json(partial / MANIFEST, manifest.model_dump())
    return manifest


def _counts(passages: Sequence[Passage]) -> TextCounts:
    return TextCounts(
        fascicles=len({(passage.place.partition("_")[0], passage.fascicle) for passage in passages}),
        passages=len(passages),
        lines=sum(len(passage.lines) for passage in passages),
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
    return [validated(Passage, row, f"{file}, line {line}") for line, row in read_jsonl(file)]

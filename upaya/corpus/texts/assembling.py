"""What the importers share: files to rows, and the parts of printed lines to passages."""

import gc
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

from upaya.corpus.texts.faults import Faults
from upaya.corpus.texts.passages import BETWEEN_VERSES, Lines, Passage
from upaya.errors import UserError

BROKEN = "\ufffd"  # stands in a row that is no UTF-8
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
PRIVATE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")  # another font shows another character there, or none
_SPACE = re.compile(r"\s+")
_BETWEEN_WORDS = re.compile(rf"(?<=\w){BETWEEN_VERSES}+(?=\w)")
_REFERENCE = re.compile(r"(?P<page>\d+)(?P<column>[a-z]?)(?P<line>\d\d)")
_LICENCE = re.compile(r"licen[cs]e|\bCC[ -](BY|0)|public[ -]domain|copyright|著作權|授權", re.IGNORECASE)


Order = tuple[int, str, int] | tuple[()]  # page, column, line


class Piece(NamedTuple):
    """What one paragraph has of one printed line, or of several that follow each other on a page.

    Attributes:
        start: where in the paragraph the piece begins.
        row: the input file's line.
        first, last: the order of the first and the last reference.
    """

    text: str
    start: int
    row: int
    first: Order
    last: Order


@dataclass
class Block:
    """A paragraph, a verse or a heading as its file has it. Pieces of verse end with what stands between verses.

    Attributes:
        lines: as a passage has them.
    """

    kind: Literal["prose", "verse", "heading"] = "prose"
    pieces: list[Piece] = field(default_factory=list)
    lines: Lines = field(default_factory=lambda: Lines([], []))
    length: int = 0

    def add(
        self, text: str, places: Sequence[str], row: int, first: Order = (), last: Order = (),
        lengths: Iterable[int] = (), apart: bool = True,
    ) -> None:  # fmt: skip
        """A piece, `text` being as in a passage: without needless white space, and not empty.

        Args:
            places: of the printed lines in it; the first may be more of the last line before.
            lengths: in characters, of these lines but the last.
            apart: whether white space, such as a line's end, stands between it and the piece before.
        """
        if self.pieces and apart:
            self._append(between(self.pieces[-1].text, text))
        starts = accumulate(lengths, initial=self.length)
        if self.lines.places and self.lines.places[-1] == places[0]:
            next(starts)
            places = places[1:]
        self.lines.starts.extend(starts)
        self.lines.places.extend(places)
        self.pieces.append(Piece(text, self.length, row, first, last))
        self.length += len(text)

    def end_verse(self) -> None:
        """What comes next is another verse."""
        if self.pieces and not self.pieces[-1].text.endswith(BETWEEN_VERSES):
            self._append(BETWEEN_VERSES)

    def _append(self, space: str) -> None:
        if space:
            self.pieces[-1] = self.pieces[-1]._replace(text=self.pieces[-1].text + space)
            self.length += len(space)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


@dataclass
class Fascicle:
    """Attributes: file: relative to the folder. row: where it begins there."""

    work: str
    number: int
    file: str
    row: int
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Imported:
    """What an importer has read. Attributes: works: id → title. files: those read, by their path in the folder."""

    importer: Literal["kanripo", "cbeta", "text"]
    works: dict[str, str]
    edition: str
    licence: str
    files: dict[str, Path]
    passages: list[Passage]
    faults: Faults


def files_of(what: Path, pattern: str, faults: Faults) -> tuple[Path, dict[str, Path]]:
    """The folder, and the files in it that `pattern` finds by their path there; or one file. One that cannot be read is
    named. Raises UserError where there is none."""
    folder, paths = (what.parent, [what]) if what.is_file() else (what, sorted(what.glob(pattern)))
    if not paths:
        raise UserError(f"{what}: no {Path(pattern).suffix} file in it; docs/texts.md says what each importer reads")
    files = {str(path.relative_to(folder)): path for path in paths}
    for name in [name for name, path in files.items() if not _readable(path)]:
        faults.add("unreadable file", name, 1, "a folder, a dead link or another's; left out")
        del files[name]
    return folder, files


def _readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


def text_of(path: Path, file: str, faults: Faults) -> str:
    """A text file's rows, each with an end; one that is no UTF-8 holds BROKEN and is named.

    Of a file that is for the most part something else there is nothing: what it is, is not guessed at.
    """
    data = path.read_bytes()
    text = data.decode(_BOMS.get(data[:2], "utf-8-sig"), errors="replace")
    if b"\r" in data:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text += "\n" * (not text.endswith("\n"))
    return _named(text, file, faults) if BROKEN in text or "\0" in text else text


def _named(text: str, file: str, faults: Faults) -> str:
    rows = text.split("\n")
    broken = [number for number, row in enumerate(rows, 1) if BROKEN in row or "\0" in row]
    if 2 * len(broken) > sum(not row.isascii() or "\0" in row for row in rows):
        what = f"{len(broken)} of {len(rows) - 1} lines; the file is left out: convert it to UTF-8 first"
        faults.add("not UTF-8", file, broken[0], what)
        return ""
    for number in broken:
        faults.add("not UTF-8", file, number, "the line is left out")
        rows[number - 1] += BROKEN
    return "\n".join(rows)


def verse_without_space(text: str) -> str:
    """As `without_space`, but what stands between two verses of one row stays."""
    return BETWEEN_VERSES.join(map(without_space, _BETWEEN_WORDS.split(text)))


def without_space(text: str) -> str:
    """Without white space, but for one space between the words of a script that has it; an honorific space goes, and
    so does what indents a verse."""
    if text.isalnum():  # most printed lines but for their punctuation
        return text
    parts = _SPACE.split(text.strip())
    joined = parts[0]
    for part in parts[1:]:
        joined += between(joined, part) + part
    return joined


def between(before: str, after: str) -> str:
    """What stands for white space between two texts: a space where both sides are written with spaces."""
    return " " if before and after and not _wide(before[-1]) and not _wide(after[0]) else ""


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def order_of(reference: str) -> tuple[int, str, int] | None:
    """Page, column and line of "0104c05"; None where it is none."""
    match = _REFERENCE.fullmatch(reference)
    return (int(match["page"]), match["column"], int(match["line"])) if match else None


def passages_of(fascicles: Iterable[Fascicle], faults: Faults) -> list[Passage]:
    """The passages of fascicles, in the order of their works and numbers.

    A fascicle that comes twice is taken the first time. Lines whose reference does not come after those before them are
    left out, and the paragraph ends there: a place shall name one place.
    """
    passages: list[Passage] = []
    taken: dict[tuple[str, int], Fascicle] = {}
    last: dict[str, Order] = {}
    for fascicle in sorted(fascicles, key=lambda each: (each.work, each.number)):
        first = taken.setdefault((fascicle.work, fascicle.number), fascicle)
        if first is not fascicle:
            what = (
                f"{fascicle.work}, fascicle {fascicle.number} stands in {first.file}:{first.row}; this one is left out"
            )
            faults.add("fascicle twice", fascicle.file, fascicle.row, what)
            continue
        before = len(passages)
        passages += _passages_of_one(fascicle, last, faults)
        if len(passages) == before:
            faults.add("no passage", fascicle.file, fascicle.row, f"nothing but headings in fascicle {fascicle.number}")
    return passages


def _passages_of_one(fascicle: Fascicle, last: dict[str, Order], faults: Faults) -> Iterator[Passage]:
    heading = ""
    for block in fascicle.blocks:
        if block.kind == "heading":
            heading = block.text
            continue
        for pieces in _forward(block.pieces, fascicle, last, faults):
            first, last_piece, lines = pieces[0], pieces[-1], block.lines
            if len(pieces) < len(block.pieces):
                lines = lines.between(first.start, last_piece.start + len(last_piece.text))
            text = "".join([piece.text for piece in pieces]).rstrip(BETWEEN_VERSES + " ")
            yield Passage(
                text=text, fascicle=fascicle.number, place=lines.places[0], lines=lines,
                source=f"{fascicle.file}:{first.row}", verse=block.kind == "verse", heading=heading,
            )  # fmt: skip


def _forward(
    pieces: Sequence[Piece], fascicle: Fascicle, last: dict[str, Order], faults: Faults
) -> Iterator[Sequence[Piece]]:
    """Runs of pieces whose references run forwards."""
    run: list[Piece] = []
    reached, astray = last.get(fascicle.work, ()), False
    for piece in pieces:
        if piece.first and piece.first < reached:
            if not astray:
                what = f"after {_shown(reached)} comes {_shown(piece.first)}; left out until it runs on"
                faults.add("reference runs backwards", fascicle.file, piece.row, what)
            if run:
                yield run
                run = []
            astray = True
            continue
        astray, reached = False, piece.last
        run.append(piece)
    last[fascicle.work] = reached
    if run:
        yield run


def _shown(order: Order) -> str:
    return f"{order[0]:04d}{order[1]}{order[2]:02d}" if order else ""


def uncollected(read: Callable[[Path], Imported]) -> Callable[[Path], Imported]:
    """An importer that Python's collector of cycles does not interrupt: it would walk through all lines read so far,
    again and again, and there are no cycles among them."""

    @wraps(read)
    def reading(what: Path) -> Imported:
        collecting = gc.isenabled()
        gc.disable()
        try:
            return read(what)
        finally:
            if collecting:
                gc.enable()

    return reading


def stated_licence(folder: Path) -> str:
    """What a folder says of its licence, in its own words: the first lines of a LICENSE, or the README's that speak
    of one."""
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        if not _readable(path) or not name.startswith(("license", "licence", "copying", "readme")):
            continue
        rows = [row.strip() for row in path.read_text(encoding="utf-8", errors="replace").splitlines() if row.strip()]
        said = [row for row in rows if _LICENCE.search(row)] if name.startswith("readme") else rows[:3]
        if said:
            return " ".join(said[:5])
    return "not stated by the source"

"""Kanripo (Mandoku) files, one fascicle each.

`#+KEY: value` rows head the file. `¶` ends a printed line; rows end where the file's lines do, which are half-lines in a
verse. `<pb:KR6l0010_T_021-0104c>` begins a page, and the `¶` that follows it ends the line before: the lines of a page
are counted by the `¶` since its mark, that one included. The page that the fascicle begins on is the header's LASTPB,
whose `¶` are the lines that other fascicles have of it, and which lacks the mark's own.

A file opens with its title, translators and the heading of its part, up to the first empty row, and closes with its
title again; what follows that is of scribes. None of it is a passage.
"""

import re
from pathlib import Path

from upaya.corpus.texts.assembling import (
    BROKEN,
    Block,
    Fascicle,
    Imported,
    Piece,
    is_missing,
    passages_of,
    rows_of,
    stated_licence,
)
from upaya.corpus.texts.faults import Faults
from upaya.corpus.texts.passages import BETWEEN_VERSES, MISSING
from upaya.errors import UserError

_HEADER = re.compile(r"#\+(?:PROPERTY: +)?(?P<key>\w+):? +(?P<value>.*)")
_PAGE = re.compile(r"<pb:(?P<id>[^>_]+)_(?P<edition>[^>_]+)_(?P<fascicle>\d+)-(?P<page>\d+)(?P<column>[a-z]?)>")
_MARK = re.compile(r"(<pb:[^>]*>|¶)")
_HEADING = re.compile(r"\*+ ")
_ITEM = re.compile(r"\s+\* ")
_GAIJI = re.compile(r"&[\w-]+;|\[[^\[\]]*[-+*/@?][^\[\]]*\]")  # an entity, or [竹-二+跛]: how it is composed
_APPARATUS = re.compile(r"＋?（[^（）]*）(?:【[^【】]*】)+")  # readings of other editions: ＋（過去）【宋】【元】
_TAG = re.compile(r"<[^<>]*>|\[\[[^\]]*\]\]")
_NUMERALS = "[〇一二三四五六七八九十百千]"
_OF_FASCICLE = f"(?:卷第?{_NUMERALS}*|第{_NUMERALS}+卷|卷?[上中下])"
_BYLINE = re.compile("[造譯述撰編著註]$")
_PLAIN = re.compile(r"[^\s<>&\[\]*#【】（）＋\ue000-\uf8ff\U000f0000-\U0010ffff]*")


def read_kanripo(what: Path) -> Imported:
    """The Kanripo files in a folder, or one. Raises UserError where there is none."""
    folder, paths = (what.parent, [what]) if what.is_file() else (what, sorted(what.glob("*.txt")))
    if not paths:
        raise UserError(f"{what}: no .txt file in it; a Kanripo text is a folder of KR6l0010_001.txt, …")
    faults, fascicles, works, editions = Faults(), list[Fascicle](), dict[str, str](), dict[str, None]()
    for path in paths:
        file = _File(path.name, rows_of(path, path.name, faults), faults)
        fascicle = file.fascicle()
        if fascicle:
            fascicles.append(fascicle)
            works.setdefault(fascicle.work, file.header.get("TITLE", fascicle.work))
            editions[file.edition] = None
    return Imported(
        "kanripo", works, "; ".join(editions), stated_licence(folder), {path.name: path for path in paths},
        passages_of(fascicles, faults), faults,
    )  # fmt: skip


class _File:
    """One file, read row by row."""

    def __init__(self, name: str, rows: list[str], faults: Faults) -> None:
        self.name, self.rows, self.faults = name, rows, faults
        self.begins = next((index for index, row in enumerate(rows) if not row.startswith("#")), len(rows))
        self.header = {
            match["key"]: match["value"].strip() for match in map(_HEADER.match, rows[: self.begins]) if match
        }
        self.work = self.header.get("CBETA_ID") or self.header.get("ID") or name.partition("_")[0]
        title = re.escape(self.header.get("TITLE", "《"))
        self.title = re.compile(f"(?:《[^《》]+》|{title}){_OF_FASCICLE}")
        self.page, self.line = "", 0
        self.blocks: list[Block] = []
        self.block = Block()
        self.part = "text"  # front, text, closed
        self.front: list[str] = []
        self.lost = False  # whether a line without reference has been named

    @property
    def edition(self) -> str:
        said = (self.header.get(key, "") for key in ("SOURCE", "BASEEDITION", "WITNESS", "DATE"))
        return ", ".join(part for part in said if part)

    def fascicle(self) -> Fascicle | None:
        """Its passages to be; None where it is no fascicle, with the reason among the faults."""
        if not self.rows:
            return None
        number = self._number()
        if number is None:
            return None
        if "LASTPB" in self.header:
            self._begin_on(self.header["LASTPB"])
        for index in range(self.begins, len(self.rows)):
            self._row(index + 1, self.rows[index])
        self._end_block()
        return Fascicle(self.work, number, self.name, self.begins + 1, self.blocks)

    def _number(self) -> int | None:
        named = re.search(r"_(\d+)\.\w+$", self.name)
        said = self.header.get("JUAN") or (named[1] if named else "")
        if not said.isdecimal():
            self.faults.add("no fascicle number", self.name, 1, "neither #+PROPERTY: JUAN nor …_021.txt; left out")
            return None
        return int(said) or None  # _000 is a repository's front matter

    def _begin_on(self, last: str) -> None:
        match = _PAGE.search(last)
        if match:
            self.page, self.line = self._page(match), 1 + last.count("¶")

    def _page(self, match: re.Match[str]) -> str:
        return f"{match['page']:0>4}{match['column']}"

    def _row(self, number: int, row: str) -> None:
        if row.endswith("¶") and _PLAIN.fullmatch(row, 0, len(row) - 1):  # most of them
            self._text(number, row[:-1])
            self.line += 1
        elif not row.strip():
            self._empty_row()
        elif BROKEN in row:
            self._end_block()
            self._marks(number, "".join(_MARK.findall(row)) or "¶")
        elif row.startswith("#"):
            self._directive(number, row)
        else:
            if _HEADING.match(row):
                self._end_block("heading")
                row = _HEADING.sub("", row, count=1)
            elif _ITEM.match(row):
                self._end_block()
                row = _ITEM.sub("", row, count=1)
            self._marks(number, row)

    def _empty_row(self) -> None:
        if self.part == "front":
            self._end_front()
        self._end_block()

    def _directive(self, number: int, row: str) -> None:
        word = row.split()[0]
        if word == "#+BEGIN_VERSE":
            self._end_block("verse")
        elif word == "#+END_VERSE":
            self._end_block()
        elif row.startswith("#+"):
            self.faults.add("unknown markup", self.name, number, f"{row[:40]}; left out")

    def _marks(self, number: int, row: str) -> None:
        for part in _MARK.split(row):
            if part == "¶":
                self.line += 1
            elif part.startswith("<pb:"):
                match = _PAGE.fullmatch(part)
                if match:
                    self.page, self.line = self._page(match), 0
                else:
                    self.faults.add("no reference", self.name, number, f"{part}: no page; the last one is counted on")
            elif part.strip():
                self.line = max(self.line, 1)
                self._text(number, self._resolved(number, part))

    def _resolved(self, number: int, text: str) -> str:
        """Without markup; a character that there is none for is MISSING."""

        def missing(match: re.Match[str]) -> str:
            self.faults.add("missing gaiji", self.name, number, f"{match[0]} → {MISSING}")
            return MISSING

        def unknown(match: re.Match[str]) -> str:
            self.faults.add("unknown markup", self.name, number, f"{match[0]}; left out")
            return ""

        if self.part == "closed" or text.startswith("No. "):
            return text
        text = _APPARATUS.sub(unknown, _TAG.sub(unknown, text))
        text = _GAIJI.sub(missing, text)
        for character in filter(is_missing, text):
            self.faults.add("missing gaiji", self.name, number, f"U+{ord(character):04X} → {MISSING}")
            text = text.replace(character, MISSING)
        return text

    def _text(self, number: int, text: str) -> None:
        """A part of a printed line, without marks."""
        if not text:
            return
        opens = self.title.fullmatch(text.strip())
        if opens or (self.part == "text" and not self.blocks and not self.block.pieces and text.startswith("No. ")):
            self._end_block()
            self.part = "closed" if self.part == "text" and self.blocks else "front"
            self.front = []
        elif self.part == "front":
            self.front.append(text)
        elif self.part == "text":
            self._piece(number, text)

    def _piece(self, number: int, text: str) -> None:
        if not self.page:
            if not self.lost:
                self.faults.add("no reference", self.name, number, "text before the first <pb:…>; left out")
            self.lost = True
            return
        if self.block.kind == "heading" and "。" in text:
            self._end_block()
        if self.block.kind == "verse":
            text += BETWEEN_VERSES
        place = f"{self.work}_p{self.page}{self.line:02d}"
        page, column = (self.page[:-1], self.page[-1]) if self.page[-1].isalpha() else (self.page, "")
        self.block.pieces.append(Piece(place, (int(page), column, self.line), text, number))

    def _end_block(self, kind: str = "prose") -> None:
        """The block is whole, and what comes is of that kind."""
        if self.block.pieces:
            self.blocks.append(self.block)
        self.block = Block(kind)  # type: ignore[arg-type]

    def _end_front(self) -> None:
        """The heading of a fascicle's part stands below the last of those who wrote and translated it."""
        bylines = [index for index, line in enumerate(self.front) if _BYLINE.search(line)]
        heading = "".join(self.front[bylines[-1] + 1 :]) if bylines else ""
        if heading:
            self.blocks.append(Block("heading", [Piece("", (), heading, 0)]))
        self.part, self.front = "text", []

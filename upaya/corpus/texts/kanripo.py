"""Kanripo (Mandoku) files, one fascicle each.

`#+KEY: value` rows head the file. `¶` ends a printed line; a row of the file is one, or in a verse a part of one.
`<pb:KR6l0010_T_021-0104c>` begins a page, and the `¶` that follows it ends the line before: the lines of a page are
counted by the `¶` since its mark, that one included. The page that the fascicle begins on is the header's LASTPB, whose
`¶` are the lines that another fascicle has of it, and which lacks the mark's own.

A file opens with its title, translators and the heading of its part, up to the first empty row, and closes with its
title again; what follows that is of scribes. None of it is a passage.

Most rows are nothing but Chinese and a `¶`. They are taken together, page by page: row by row, reading a text would
take far longer than its conversion.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from upaya.corpus.texts.assembling import (
    BROKEN,
    PRIVATE,
    Block,
    Fascicle,
    Imported,
    files_of,
    passages_of,
    stated_licence,
    text_of,
    uncollected,
    verse_without_space,
    without_space,
)
from upaya.corpus.texts.faults import Faults
from upaya.corpus.texts.passages import BETWEEN_VERSES, MISSING

_HEADER = re.compile(r"#\+(?:PROPERTY: +)?(?P<key>\w+):? +(?P<value>.*)")
_PAGE_MARK = r"<pb:[^>_]+_[^>_]+_(?P<fascicle>\d+)-(?P<page>\d+)(?P<column>[a-z]?)>"
_PAGE = re.compile(_PAGE_MARK)
_MARK = re.compile(r"(<pb:[^>]*>|¶)")
_BEGINS = re.compile(r"\*+ |\s+\* ")  # a heading, an item of a list
_GAIJI = re.compile(r"&[\w-]+;|\[[^\[\]]*[-+*/@?][^\[\]]*\]")  # an entity, or [竹-二+跛]: how it is composed
_APPARATUS = re.compile(r"＋?（[^（）]*）(?:【[^【】]*】)+")  # readings of other editions: ＋（過去）【宋】【元】
_PARENTHESIS = re.compile("([()])")
_TAG = re.compile(r"<[^<>]*>|\[\[[^\]]*\]\]")
_NUMERALS = "[〇一二三四五六七八九十百千]"
_OF_FASCICLE = f"(?:卷第?{_NUMERALS}*|第{_NUMERALS}+卷|卷?[上中下])"
_BYLINE = re.compile("[造譯述撰編著註]$")
# Characters that need no second look: Chinese and its marks, none of them white space, markup or a title's bracket.
_PLAIN = "[\u3001\u3002\u300c-\u300f\u3400-\u9fff！，：；？]"
_LINES = re.compile(f"(?P<lines>(?:{_PLAIN}++¶\n)*+)(?:(?P<last>{_PLAIN}++)\n{_PAGE_MARK}¶\n)?")
_VERSE = re.compile(f"(?:{_PLAIN}|　)++")
COLOPHON = 2000  # characters that scribes may have added below a fascicle's end
_TWO_DIGITS = [f"{number:02d}" for number in range(100)]


@uncollected
def read_kanripo(what: Path) -> Imported:
    """The Kanripo files in a folder, or one. Raises UserError where there is none."""
    faults, fascicles, works, editions = Faults(), list[Fascicle](), dict[str, str](), dict[str, None]()
    folder, files = files_of(what, "*.txt", faults)
    for name, path in files.items():
        file = _File(name, text_of(path, name, faults), faults)
        fascicle = file.fascicle()
        if fascicle:
            fascicles.append(fascicle)
            works.setdefault(fascicle.work, file.header.get("TITLE", fascicle.work))
            editions[file.edition] = None
    return Imported(
        "kanripo", works, "; ".join(editions), stated_licence(folder), files, passages_of(fascicles, faults), faults
    )


class _File:
    """One file, read from its beginning to its end."""

    def __init__(self, name: str, text: str, faults: Faults) -> None:
        self.name, self.text, self.faults = name, text, faults
        self.begins = re.match(r"(?:#.*\n)*", text).end()  # type: ignore[union-attr]
        headers = map(_HEADER.fullmatch, text[: self.begins].split("\n"))
        self.header = {match["key"]: match["value"].strip() for match in headers if match}
        self.work = self.header.get("CBETA_ID") or self.header.get("ID") or name.partition("_")[0]
        self.title = self.header.get("TITLE") or "《"
        self.title_row = re.compile(f"(?:《[^《》]+》|{re.escape(self.title)}){_OF_FASCICLE}")
        self.row = 1 + text.count("\n", 0, self.begins)
        self.page: tuple[int, str] | None = None
        self.prefix = ""  # of the references to this page
        self.line = 0
        self.blocks: list[Block] = []
        self.block = Block()
        self.part: Literal["front", "text", "closed"] = "text"
        self.front: list[str] = []
        self.note = 0  # the row of an inline note's ( that is open
        self.lost = False  # whether a line without reference has been named

    @property
    def edition(self) -> str:
        said = (self.header.get(key, "") for key in ("SOURCE", "BASEEDITION", "WITNESS", "DATE"))
        return ", ".join(part for part in said if part)

    def fascicle(self) -> Fascicle | None:
        """Its passages to be; None where it is no fascicle, with the reason among the faults."""
        number = self._number() if self.text else None
        if number is None:
            return None
        last = self.header.get("LASTPB", "")
        if match := _PAGE.search(last):
            self._turn(match, 1 + last.count("¶"))
        begins, at = self.row, self.begins
        while at < len(self.text) and self.part != "closed":
            if self.text[at] == "\n":
                self._empty_row()
                at += 1
            else:
                at = self._plain_lines(at) or self._one_row(at)
        self._end_block()
        if (below := len(self.text) - at) > COLOPHON:
            self.faults.add("text below the end", self.name, self.row, f"{below} characters below its title; left out")
        return Fascicle(self.work, number, self.name, begins, self.blocks)

    def _number(self) -> int | None:
        named = re.search(r"_(\d+)\.\w+$", self.name)
        said = self.header.get("JUAN") or (named[1] if named else "")
        if not said.isdecimal():
            self.faults.add("no fascicle number", self.name, 1, "neither #+PROPERTY: JUAN nor …_021.txt; left out")
            return None
        return int(said) or None  # _000 is a repository's front matter

    def _turn(self, match: re.Match[str], line: int) -> None:
        self.page, self.line = (int(match["page"]), match["column"]), line
        self.prefix = f"{self.work}_p{self.page[0]:04d}{self.page[1]}"

    def _plain_lines(self, at: int) -> int:
        """Take the plain lines that stand at `at`; where they end, 0 where there are none."""
        if self.part != "text" or self.block.kind != "prose" or not self.page or self.note:
            return 0
        match = _LINES.match(self.text, at)
        if not match or match.end() == at:
            return 0
        texts = match["lines"].split("¶\n")
        texts[-1:] = [match["last"]] if match["last"] else []
        text = "".join(texts)
        if self.title in text and any(map(self.title_row.fullmatch, texts)):
            return 0
        self._add(text, len(texts), map(len, texts[:-1]), apart=False)  # no space stands beside Chinese
        self.row += len(texts)
        if match["last"]:
            self._turn(match, 1)
            self.row += 1
        else:
            self.line += len(texts)
        return match.end()

    def _add(self, text: str, count: int = 1, lengths: Iterable[int] = (), apart: bool = True) -> None:
        """A piece of the block, of so many printed lines from this one; `lengths` and `apart` as the block has them."""
        assert self.page
        number, column = self.page
        end = self.line + count
        numbers = _TWO_DIGITS[self.line : end] if end <= 100 else [f"{line:02d}" for line in range(self.line, end)]
        prefix, first, last = self.prefix, (number, column, self.line), (number, column, end - 1)
        self.block.add(text, [prefix + line for line in numbers], self.row, first, last, lengths, apart)

    def _one_row(self, at: int) -> int:
        end = self.text.index("\n", at)
        row = self.text[at:end].rstrip()
        if not row:
            self._empty_row()
            return end + 1
        if row == "¶":
            self.line += 1
        elif BROKEN in row:
            self._end_block()
            self._marks("".join(_MARK.findall(row)) or "¶")
        elif row.startswith("#+"):
            self._directive(row)
        elif not row.startswith("# "):
            self._marks(self._begun(row))
        self.row += 1
        return end + 1

    def _empty_row(self) -> None:
        if self.part == "front":
            self._end_front()
        self._end_block()
        self.row += 1

    def _directive(self, row: str) -> None:
        word = row.split()[0]
        if word in ("#+BEGIN_VERSE", "#+END_VERSE"):
            self._end_block("verse" if word == "#+BEGIN_VERSE" else "prose")
        else:
            self.faults.add("unknown markup", self.name, self.row, f"{row[:40]}; left out")

    def _begun(self, row: str) -> str:
        """A row without what says that a heading, or an item of a list, begins with it."""
        begins = _BEGINS.match(row)
        if not begins:
            return row
        self._end_block("prose" if row[0].isspace() else "heading")
        return row[begins.end() :]

    def _marks(self, row: str) -> None:
        for part in _MARK.split(row):
            if part == "¶":
                self.line += 1
            elif match := _PAGE.fullmatch(part):
                self._turn(match, 0)
            elif part.strip() and not self._is_title(part):
                self.line = max(self.line, 1)
                self._take(part)

    def _is_title(self, text: str) -> bool:
        """Whether the fascicle's title opens or closes it here."""
        text = text.strip()
        if not text.startswith(("《", "No. ", self.title)):
            return False
        begins = self.part == "text" and not self.blocks and not self.block.pieces
        if not (self.title_row.fullmatch(text) or (begins and text.startswith("No. "))):
            return False
        self._end_block()
        if self.part == "text":
            self.part = "closed" if self.blocks else "front"
        return True

    def _take(self, text: str) -> None:
        """A part of a printed line, without marks, as it is to be taken here."""
        if self.part == "front":
            self.front.append(without_space(text))
        elif not self.page:
            if not self.lost:
                self.faults.add("no reference", self.name, self.row, "text before the first <pb:…>; left out")
            self.lost = True
        elif self.part == "text" and (text := self._spaced(self._resolved(self._without_notes(text)))):
            if self.block.kind == "heading" and "。" in text:
                self._end_block()
            self._add(text + BETWEEN_VERSES * (self.block.kind == "verse"))

    def _spaced(self, text: str) -> str:
        return verse_without_space(text) if self.block.kind == "verse" else without_space(text)

    def _without_notes(self, text: str) -> str:
        """Without what stands in parentheses, printed small and in two columns: (上/下), at times over several rows."""
        kept = ""
        for part in _PARENTHESIS.split(text):
            if part in ("(", ")"):
                self.note = self.row if part == "(" else 0
            elif not self.note:
                kept += part
        return kept

    def _resolved(self, text: str) -> str:
        """Without markup; a character that there is none for is MISSING."""
        if _VERSE.fullmatch(text):
            return text

        def missing(match: re.Match[str]) -> str:
            shown = match[0] if len(match[0]) > 1 else f"U+{ord(match[0]):04X}"
            self.faults.add("missing gaiji", self.name, self.row, f"{shown}, {MISSING} in its place")
            return MISSING

        def unknown(match: re.Match[str]) -> str:
            self.faults.add("unknown markup", self.name, self.row, f"{match[0]}; left out")
            return ""

        text = _GAIJI.sub(missing, _APPARATUS.sub(unknown, _TAG.sub(unknown, text)))
        return PRIVATE.sub(missing, text)

    def _end_block(self, kind: Literal["prose", "verse", "heading"] = "prose") -> None:
        """The block is whole, and what comes is of that kind."""
        if self.note:
            self.faults.add("unknown markup", self.name, self.note, "( without ); left out to the paragraph's end")
            self.note = 0
        if self.block.pieces:
            self.blocks.append(self.block)
        self.block = Block(kind)

    def _end_front(self) -> None:
        """The heading of a fascicle's part stands below the last of those who wrote and translated it."""
        bylines = [index for index, line in enumerate(self.front) if _BYLINE.search(line)]
        heading = "".join(self.front[bylines[-1] + 1 :]) if bylines else ""
        if heading:
            self.blocks.append(Block("heading"))
            self.blocks[-1].add(heading, [""], self.row)
        self.part, self.front = "text", []

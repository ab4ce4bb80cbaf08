"""CBETA's TEI files (P5, P5a, P5b): a file holds a fascicle, or a work with its fascicles.

`<lb n="0104c05" ed="T"/>` begins a printed line, `<milestone unit="juan" n="21"/>` or `<cb:juan fun="open" n="021">` a
fascicle, which ends with the next or with `fun="close"`. Of an apparatus entry the edition's reading (`lem`) is taken,
of a choice `corr`, `orig` and `abbr`; notes, the table of contents (`mulu`), translators, titles of fascicles and words
in other languages are left out. A character outside the encoding is `<g ref="#CB00001"/>`: its Unicode, or else its
normalised form, stands in the header's charDecl.

Elements are known by their names without namespace. Entities are not expanded and nothing is fetched.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lxml import etree

from upaya.corpus.texts.assembling import (
    PRIVATE,
    Block,
    Fascicle,
    Imported,
    Order,
    files_of,
    order_of,
    passages_of,
    stated_licence,
    uncollected,
    verse_without_space,
    without_space,
)
from upaya.corpus.texts.faults import Faults
from upaya.corpus.texts.passages import MISSING


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# Each of these is a paragraph of its own.
_BLOCKS = _names("p ab lg item cell row list table div sp dialog event entry form def")
_HEADINGS = _names("head")
_LEFT_OUT = _names("back byline del docNumber figure fw graphic jhead juan mulu note rdg teiHeader trailer")
_UNCHOSEN = _names("sic reg expan")  # of a choice; alone, they are all that there is
_ILLEGIBLE = _names("unclear gap")  # where they are empty
# What is read as if it were not there, and what begins something (lb, milestone).
_THROUGH = _names("""
    TEI TEI.2 text group front body titlePage docTitle title div1 div2 div3 div4 div5 l app lem choice corr orig abbr
    sic reg expan add seg hi emph term name persName placeName foreign lang ref ptr anchor supplied unclear gap space
    caesura pb cb lb milestone tt t yin zi sg quote q date num formula label g jl_title jl_juan jl_byline
""")
_CHINESE = ("", "zh", "chi", "lzh")
_SCALAR = re.compile(r"U\+([0-9A-Fa-f]{4,6})")


@dataclass(frozen=True)
class _Gaiji:
    """A character of the header. Attributes: text: "" where there is none. composition: how it is made up."""

    text: str
    composition: str


@uncollected
def read_cbeta(what: Path) -> Imported:
    """The TEI files below a folder, or one. Raises UserError where there is none."""
    faults, fascicles, works = Faults(), list[Fascicle](), dict[str, str]()
    editions, licences = dict[str, None](), dict[str, None]()
    folder, files = files_of(what, "**/*.xml", faults)
    for name, path in files.items():
        root = _parsed(path, name, faults)
        if root is None:
            continue
        file = _File(name, root, faults)
        file.read()
        fascicles += file.fascicles
        works.setdefault(file.work, _title(root) or file.work)
        editions[_said(root, "editionStmt")] = None
        licences[_said(root, "availability")] = None
    licence = " ".join(filter(None, licences)) or stated_licence(folder)
    return Imported("cbeta", works, "; ".join(editions), licence, files, passages_of(fascicles, faults), faults)


def _parsed(path: Path, name: str, faults: Faults) -> Any:
    """The root element; None where the file is broken."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    try:
        return etree.fromstring(path.read_bytes(), parser)
    except etree.XMLSyntaxError as error:
        faults.add("broken file", name, error.lineno or 1, f"{error.msg}; the file is left out")
        return None


def _local(element: Any) -> str:
    return str(etree.QName(element).localname)


def _attribute(element: Any, name: str) -> str:
    """By its name without namespace: xml:id and id, xml:lang and lang."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return ""


def _named(root: Any, name: str) -> Iterator[Any]:
    return (each for each in root.iter(etree.Element) if _local(each) == name)


def _said(root: Any, name: str) -> str:
    """All that the header's first element of a name says, on one line."""
    first = next(_named(root, name), None)
    return "" if first is None else " ".join("".join(first.itertext()).split())


def _title(root: Any) -> str:
    """The title in Chinese, of the work rather than of the collection."""
    titles = [
        each
        for each in _named(root, "title")
        if each.getparent() is not None and _local(each.getparent()) == "titleStmt"
    ]
    chinese = [each for each in titles if _attribute(each, "lang").startswith("zh")] or titles
    works = [each for each in chinese if each.get("level") == "m"] or chinese
    return " ".join("".join(works[-1].itertext()).split()) if works else ""


def _characters(root: Any) -> dict[str, _Gaiji]:
    """xml:id → what stands for it."""
    return {
        _attribute(each, "id"): _gaiji(each) for name in ("char", "glyph") for each in _named(root, name)
    }  # fmt: skip


def _gaiji(declared: Any) -> _Gaiji:
    """Its own Unicode, a character of the same meaning, its normalised form: the first that there is."""
    mapped = {each.get("type", ""): _scalar("".join(each.itertext())) for each in _named(declared, "mapping")}
    said = {}
    for each in declared.iter(etree.Element):
        if _local(each) in ("charProp", "glyphProp", "localProp", "unicodeProp"):
            parts = {_local(part): "".join(part.itertext()).strip() for part in each}
            name = parts.get("localName") or parts.get("unicodeName") or each.get("name", "")
            said[name.lower()] = parts.get("value") or each.get("value", "")
    forms = (mapped.get("unicode"), mapped.get("normal_unicode"), mapped.get("normal"), said.get("normalized form"),
             said.get("normalised form"))  # fmt: skip
    text = next((form for form in forms if form and not PRIVATE.search(form)), "")
    return _Gaiji(text, said.get("composition", ""))


def _scalar(said: str) -> str:
    """ "U+2A6D6" or the character itself; "" for what is neither."""
    match = _SCALAR.fullmatch(said.strip())
    if not match:
        return said.strip()
    value = int(match[1], 16)
    return chr(value) if value < 0x110000 and not 0xD800 <= value < 0xE000 else ""


class _File:
    """One file, read element by element."""

    def __init__(self, name: str, root: Any, faults: Faults) -> None:
        self.name, self.root, self.faults = name, root, faults
        stem = Path(name).stem
        self.work = re.sub(r"_\d+$", "", _attribute(root, "id") or stem)
        match = re.search(r"_(\d+)$", stem)
        self.number = max(int(match[1]), 1) if match else 1
        self.characters = _characters(root)
        self.edition = ""
        self.place, self.row = "", 1
        self.order: Order = ()
        self.fascicles: list[Fascicle] = []
        self.block = Block()
        self.verses = 0  # lg and l that are open
        self.apart = False  # whether white space stands before what comes
        self.lost = False  # whether text without reference has been named
        self.closed = False  # after a fascicle's closing title: what follows is of scribes

    def read(self) -> None:
        for what, node in _events(self.root):
            if what == "start":
                self._start(node)
            elif what == "end":
                self._end(node)
            elif what == "entity":
                self._gaiji_missing(f"&{node.name};")
            else:
                self._text(node)
        self._end_block()

    def _start(self, element: Any) -> None:
        name = _local(element)
        self.row = element.sourceline or self.row
        if name == "lb":
            self._line(element)
        elif name == "juan" and element.get("fun") == "close":
            self._end_block()
            self.closed = True
        elif name == "juan" or (name == "milestone" and element.get("unit") in ("juan", "卷")):
            self._fascicle(element.get("n", ""))
        elif name in ("lg", "l"):
            if not self.verses:
                self._end_block("verse")
            self.verses += 1
        elif name in _BLOCKS:
            self._end_block()
        elif name in _HEADINGS:
            self._end_block("heading")
        elif name == "caesura":
            self._between_verses()
        elif name == "g":
            self._character(element)
        elif name in _ILLEGIBLE and not len(element) and not element.text:
            self._gaiji_missing(f"<{name}>")
        elif name not in _THROUGH and name not in _LEFT_OUT:
            self.faults.add("unknown markup", self.name, self.row, f"<{name}>; its text is taken as it stands")

    def _end(self, element: Any) -> None:
        name = _local(element)
        if name in ("lg", "l"):
            self._between_verses()
            self.verses -= 1
            if not self.verses:
                self._end_block()
        elif name in _BLOCKS or name in _HEADINGS:
            self._end_block()

    def _line(self, element: Any) -> None:
        """A printed line of the edition that the first one is of; other editions' lines are counted elsewhere."""
        edition = element.get("ed", "")
        self.edition = self.edition or edition
        if edition not in ("", self.edition) or element.get("type") == "old":
            return
        number = element.get("n", "")
        order = order_of(number)
        if order is None:
            self.faults.add("no reference", self.name, self.row, f"<lb n={number!r}>: no page, column and line")
            return
        self.place, self.order, self.apart = f"{self.work}_p{number}", order, True

    def _fascicle(self, said: str) -> None:
        self.closed = False
        if not said.isdecimal() or int(said) < 1:
            self.faults.add(
                "no fascicle number", self.name, self.row, f"{said!r}; taken as more of fascicle {self.number}"
            )
            return
        if int(said) != self.number or not self.fascicles:
            self._end_block()
            self.number = int(said)
            self.fascicles.append(Fascicle(self.work, self.number, self.name, self.row))

    def _character(self, element: Any) -> None:
        reference = element.get("ref", "").removeprefix("#")
        declared = self.characters.get(reference, _Gaiji("", ""))
        own = "".join(element.itertext()).strip()
        text = declared.text or ("" if PRIVATE.search(own) else own)
        if text:
            self._text(text)
        else:
            self._gaiji_missing(" ".join(part for part in (reference, declared.composition) if part) or "<g>")

    def _gaiji_missing(self, shown: str) -> None:
        self.faults.add("missing gaiji", self.name, self.row, f"{shown}, {MISSING} in its place")
        self._text(MISSING)

    def _text(self, said: str) -> None:
        text = verse_without_space(said) if self.verses else without_space(said)
        apart, self.apart = self.apart or said[:1].isspace(), said[-1:].isspace()
        if not text or self.closed:
            self.apart = self.apart or apart
            return
        for character in PRIVATE.findall(text):
            self.faults.add("missing gaiji", self.name, self.row, f"U+{ord(character):04X}, {MISSING} in its place")
        if not self.place:
            if not self.lost:
                self.faults.add("no reference", self.name, self.row, "text before the first <lb>; left out")
            self.lost = True
            return
        self.block.add(PRIVATE.sub(MISSING, text), [self.place], self.row, self.order, self.order, apart=apart)

    def _between_verses(self) -> None:
        if self.verses:
            self.block.end_verse()

    def _end_block(self, kind: Literal["prose", "verse", "heading"] = "prose") -> None:
        if self.block.pieces:
            if not self.fascicles:
                self.fascicles.append(Fascicle(self.work, self.number, self.name, self.row))
            self.fascicles[-1].blocks.append(self.block)
        self.block = Block("verse" if self.verses and kind == "prose" else kind)


def _events(root: Any) -> Iterator[tuple[str, Any]]:
    """(start, element), (text, words), (entity, node), (end, element) in the document's order, without what is left
    out. Without recursion: a file may be nested as deep as it likes."""
    todo: list[tuple[str, Any]] = [("element", root)]
    while todo:
        what, node = todo.pop()
        if what != "element":
            yield what, node
            continue
        if node.tag is etree.Entity:
            yield "entity", node
            continue
        yield "start", node
        if _left_out(node):
            continue
        if node.text:
            yield "text", node.text
        todo.append(("end", node))
        for child in reversed(node):
            if child.tail:
                todo.append(("text", child.tail))
            todo.append(("element", child))


def _left_out(element: Any) -> bool:
    name = _local(element)
    if name in _UNCHOSEN:
        return element.getparent() is not None and _local(element.getparent()) == "choice"
    if name in ("t", "foreign"):  # words side by side in several languages
        return _attribute(element, "lang").partition("-")[0] not in _CHINESE or element.get("place") == "foot"
    return name in _LEFT_OUT or name == "g"  # whose characters have been taken

"""Imported texts: round trips in the three formats, every fault by its file and line, the text as a source."""

import hashlib
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import CANON, NO_CANON, ROOT
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from upaya.cli import app
from upaya.corpus.gathering import gather
from upaya.corpus.script import Converter
from upaya.corpus.sources.opened import opened
from upaya.corpus.sources.text import ImportedText, cut
from upaya.corpus.texts.assembling import Imported, without_space
from upaya.corpus.texts.cbeta import read_cbeta
from upaya.corpus.texts.kanripo import read_kanripo
from upaya.corpus.texts.passages import PASSAGES, Lines, Passage, read_manifest, read_passages, write_passages
from upaya.corpus.texts.plain import read_plain
from upaya.declared.questions import QuestionParams, TextSource
from upaya.declared.validation import validated
from upaya.errors import UserError
from upaya.files import dumps
from upaya.operating.importing import IMPORTERS, import_text, text_folder
from upaya.operating.script_audit import dictionary, script_findings
from upaya.records.reading import parsed

CONVERTER = Converter(ROOT / "params/opencc.json")

# Two fascicles of a treatise on weaving that nobody wrote: headings, verse, a page turned in the middle of a word, an
# honorific space, a line that two paragraphs share no part of, and a scribe's note at the end.
KANRIPO = {
    "KX0001_001.txt": """\
# -*- mode: mandoku-view; -*-
#+DATE: 2020-01-01 00:00
#+TITLE: 織布論
#+PROPERTY: CBETA_ID T99n9999
#+PROPERTY: ID KX0001
#+PROPERTY: SOURCE Loom Tripitaka Vol. 99, No. 9999
#+PROPERTY: BASEEDITION T
#+PROPERTY: LASTPB <pb:KX0001_T_001-0001a> ¶¶
#+PROPERTY: JUAN 1
¶
No. 9999 [cf. No. 9998]¶
《織布論》卷第一¶
¶
大機織者造¶
三藏法師梭子奉　詔譯¶

* 經線品第一¶

問經線有幾種。答有三種。一者白線。¶
二者青線。三者奉　王所賜金線。云何白
<pb:KX0001_T_001-0001b>¶
線。謂未染者。如有頌言。¶

#+BEGIN_VERSE
「　白線如初雪
　青線如秋水¶
　金線如朝日
　織者應善知」
#+END_VERSE
¶

頌已說訖。¶
《織布論》卷第一¶

永樂元年書者謹記。¶
""",
    "KX0001_002.txt": """\
# -*- mode: mandoku-view; -*-
#+TITLE: 織布論
#+PROPERTY: CBETA_ID T99n9999
#+PROPERTY: SOURCE Loom Tripitaka Vol. 99, No. 9999
#+PROPERTY: LASTPB <pb:KX0001_T_002-0001b> ¶¶¶¶¶¶¶¶
#+PROPERTY: JUAN 2
¶
《織布論》卷第¶
二¶
¶
大機織者造¶
三藏法師梭子奉　詔譯¶
緯線品第二¶

問緯線云何。答橫者是。¶
《織布論》卷第二
<pb:KX0001_T_002-0001c>¶
""",
}

FIRST = "問經線有幾種。答有三種。一者白線。二者青線。三者奉王所賜金線。云何白線。謂未染者。如有頌言。"
VERSE = "「白線如初雪　青線如秋水　金線如朝日　織者應善知」"
THIRD, FOURTH = "頌已說訖。", "問緯線云何。答橫者是。"

# The same treatise as TEI, with an apparatus, notes, a table of contents, other editions' lines and rare characters.
CBETA = """\
<?xml version="1.0" encoding="UTF-8"?>
<TEI xmlns="http://www.tei-c.org/ns/1.0" xmlns:cb="http://www.cbeta.org/ns/1.0" xml:id="T99n9999">
<teiHeader><fileDesc>
<titleStmt><title level="s" xml:lang="zh-Hant">織機藏</title>
<title level="m" xml:lang="zh-Hant">織布論</title></titleStmt>
<editionStmt><edition>Loom <date>2020</date></edition></editionStmt>
<publicationStmt><availability><p xml:lang="en">Free to all who weave.</p></availability></publicationStmt>
</fileDesc><encodingDesc><charDecl>
<char xml:id="CB1"><charProp><localName>composition</localName><value>[糸*白]</value></charProp>
<mapping type="PUA">U+F0001</mapping><mapping type="unicode">U+7DDA</mapping></char>
<char xml:id="CB2"><charProp><localName>normalized form</localName><value>雪</value></charProp></char>
<char xml:id="CB3"><charProp><localName>composition</localName><value>[糸*雪]</value></charProp></char>
</charDecl></encodingDesc></teiHeader>
<text><body><milestone unit="juan" n="1"/>
<lb n="0001a03" ed="T"/><cb:juan fun="open" n="001"><cb:jhead>織布論卷第一</cb:jhead></cb:juan>
<lb n="0001a04" ed="T"/><byline type="translator">三藏法師梭子奉　詔譯</byline>
<lb n="0001a05" ed="T"/><cb:div type="pin"><cb:mulu level="1" type="品">1 經線品</cb:mulu><head>經線品第一</head>
<lb n="0001a06" ed="T"/><p>問經<g ref="#CB1"/>有幾種。<note place="foot">有一本作二。</note>
答有<app><lem wit="#wit1">三</lem>
<rdg wit="#wit2">二</rdg></app>種。一者白線。
<lb n="0001a07" ed="T"/>二者青<lb n="0009z99" ed="X"/>線。三者奉　王
<!-- sic -->所賜<choice><sic>全</sic><corr>金</corr></choice>線。云何白
<pb n="0001b" ed="T"/><lb n="0001b01" ed="T"/>線。<cb:tt><cb:t xml:lang="zh">謂未染者</cb:t>
<cb:t xml:lang="sa">arakta</cb:t></cb:tt>。如有頌言。</p>
<lb n="0001b02" ed="T"/><lg><l>「白線如初<g ref="#CB2"/><caesura/>青線如秋水</l>
<lb n="0001b03" ed="T"/><l>金線如朝日</l><l>織者應善知」</l></lg>
<lb n="0001b04" ed="T"/><p>頌已說訖。</p></cb:div>
<lb n="0001b05" ed="T"/><cb:juan fun="close" n="001"><cb:jhead>織布論卷第一</cb:jhead></cb:juan>
<lb n="0001b06" ed="T"/><p>永樂元年書者謹記。</p>
<milestone unit="juan" n="2"/>
<lb n="0001b12" ed="T"/><cb:juan fun="open" n="002"><cb:jhead>織布論卷第二</cb:jhead></cb:juan><head>緯線品第二</head>
<lb n="0001b15" ed="T"/><p>問緯線云何。答橫者是。</p>
</body></text></TEI>
"""

PLAIN = {"a.txt": "問經線\n有幾種。\n\n  答有  三種。\n", "b.txt": "\ufeffThe warp\nis upright.\r\n\r\n織\n"}


def folder_of(tmp_path: Path, files: dict[str, str], name: str = "input") -> Path:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    for file, text in files.items():
        (folder / file).write_bytes(text.encode())
    return folder


def kanripo(tmp_path: Path, **edits: tuple[str, str]) -> Imported:
    """The treatise with something replaced in its first fascicle."""
    first = KANRIPO["KX0001_001.txt"]
    for old, new in edits.values():
        assert old in first
        first = first.replace(old, new, 1)
    return read_kanripo(folder_of(tmp_path, {**KANRIPO, "KX0001_001.txt": first}))


def cbeta(tmp_path: Path, old: str = "", new: str = "") -> Imported:
    assert old in CBETA
    return read_cbeta(folder_of(tmp_path, {"T99n9999.xml": CBETA.replace(old, new, 1)}))


def told(imported: Imported) -> list[str]:
    return [f"{fault.file}:{fault.line}: {fault.kind}" for fault in imported.faults.all]


def line_of(text: str, words: str) -> int:
    return text[: text.index(words)].count("\n") + 1


# --- round trips ------------------------------------------------------------------------------------------------------


def test_kanripo_gives_paragraphs_without_titles_names_or_colophon(tmp_path: Path) -> None:
    imported = kanripo(tmp_path)
    assert [passage.text for passage in imported.passages] == [FIRST, VERSE, THIRD, FOURTH]
    assert [passage.verse for passage in imported.passages] == [False, True, False, False]
    assert [passage.heading for passage in imported.passages] == ["經線品第一"] * 3 + ["緯線品第二"]
    assert [passage.fascicle for passage in imported.passages] == [1, 1, 1, 2]
    assert imported.works == {"T99n9999": "織布論"} and told(imported) == []


def test_more_below_a_fascicle_s_end_than_scribes_add_is_named(tmp_path: Path) -> None:
    quoted = "頌已說訖。¶\n《織布論》卷第一¶\n" + "答橫者是。¶\n" * 300
    imported = kanripo(tmp_path, quoted=("頌已說訖。¶\n《織布論》卷第一¶\n", quoted))
    assert [passage.text for passage in imported.passages] == [FIRST, VERSE, THIRD, FOURTH]
    assert told(imported) == [f"KX0001_001.txt:{line_of(KANRIPO['KX0001_001.txt'], '永樂') - 1}: text below the end"]


def test_kanripo_counts_lines_from_the_page_and_from_what_the_header_says_of_it(tmp_path: Path) -> None:
    first, verse, third, fourth = kanripo(tmp_path).passages
    # Two lines of another fascicle; an empty one, the number, the title, an empty one, two names and a heading.
    assert first.place == "T99n9999_p0001a10"
    assert first.lines.places == [f"T99n9999_p0001{line}" for line in ("a10", "a11", "b01")]
    assert first.at(first.text.index("二者")) == "T99n9999_p0001a11"
    assert first.at(first.text.index("云何白線") + 3) == "T99n9999_p0001b01"
    assert verse.lines.places == ["T99n9999_p0001b02", "T99n9999_p0001b03"]
    assert third.place == "T99n9999_p0001b04"
    assert fourth.place == "T99n9999_p0001b16"
    assert first.source == f"KX0001_001.txt:{line_of(KANRIPO['KX0001_001.txt'], '問經線')}"


def test_cbeta_gives_the_same_paragraphs_with_the_edition_s_readings(tmp_path: Path) -> None:
    imported = cbeta(tmp_path)
    assert [passage.text for passage in imported.passages] == [FIRST, VERSE, THIRD, FOURTH]
    assert [passage.verse for passage in imported.passages] == [False, True, False, False]
    assert [passage.heading for passage in imported.passages] == ["經線品第一"] * 3 + ["緯線品第二"]
    assert [passage.fascicle for passage in imported.passages] == [1, 1, 1, 2]
    first, verse, *_ = imported.passages
    assert first.lines.places == [f"T99n9999_p0001{line}" for line in ("a06", "a07", "b01")]
    assert verse.lines.places == ["T99n9999_p0001b02", "T99n9999_p0001b03"]
    assert first.at(first.text.index("二者青線") + 3) == "T99n9999_p0001a07"  # X's lines are counted elsewhere
    assert imported.works == {"T99n9999": "織布論"} and told(imported) == []
    assert (imported.edition, imported.licence) == ("Loom 2020", "Free to all who weave.")


def test_cbeta_s_names_count_with_any_namespace_or_none(tmp_path: Path) -> None:
    bare = re.sub(r' xmlns(:cb)?="[^"]*"', "", CBETA).replace("cb:", "").replace("xml:id", "id")
    (file := tmp_path / "T99n9999.xml").write_text(bare)
    assert [passage.text for passage in read_cbeta(file).passages] == [FIRST, VERSE, THIRD, FOURTH]


def test_plain_text_is_cited_by_file_and_line(tmp_path: Path) -> None:
    imported = read_plain(folder_of(tmp_path, PLAIN))
    assert [(each.text, each.place, each.fascicle) for each in imported.passages] == [
        ("問經線有幾種。", "a.txt:1", 1),
        ("答有三種。", "a.txt:4", 1),
        ("The warp is upright.", "b.txt:1", 2),
        ("織", "b.txt:4", 2),
    ]
    assert imported.passages[2].at(9) == "b.txt:2"


chinese = st.text(st.sampled_from("經緯線布白青金織。"), min_size=1, max_size=12)


@given(paragraphs=st.lists(st.lists(chinese, min_size=1, max_size=5), min_size=1, max_size=5))
def test_every_position_of_every_line_has_that_line_s_reference(
    paragraphs: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "\n\n".join("\n".join(lines) for lines in paragraphs)
    imported = read_plain(folder_of(tmp_path_factory.mktemp("plain"), {"x.txt": text}))
    assert [passage.text for passage in imported.passages] == ["".join(lines) for lines in paragraphs]
    rows = text.split("\n")
    for passage in imported.passages:
        told = [passage.at(offset) for offset in range(len(passage.text))]
        for place in dict.fromkeys(told):
            said = "".join(c for c, at in zip(passage.text, told, strict=True) if at == place)
            assert said == rows[int(place.rpartition(":")[2]) - 1]


@given(lines=st.lists(st.one_of(chinese, st.just("")), min_size=1, max_size=60), turns=st.sets(st.integers(1, 59)))
def test_kanripo_s_lines_are_counted_alike_row_by_row_and_page_by_page(
    lines: list[str], turns: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Rows with a tag in them are read one by one, the others together: the passages are the same but for the tag."""

    def written(tag: str) -> str:
        rows, page = ["#+TITLE: 布", "#+PROPERTY: JUAN 1", "#+PROPERTY: LASTPB <pb:K_T_001-0001a>"], 1
        for number, line in enumerate(lines):
            if number in turns:
                page += 1
                rows += [tag * bool(line) + line, f"<pb:K_T_001-{page:04d}a>¶"]
            else:
                rows.append(tag * bool(line) + line + "¶")
        return "\n".join(rows) + "\n"

    folder = tmp_path_factory.mktemp("kanripo")
    together = read_kanripo(folder_of(folder, {"K_001.txt": written("")}, "together")).passages
    one_by_one = read_kanripo(folder_of(folder, {"K_001.txt": written("<x>")}, "one")).passages
    assert together == one_by_one
    assert "".join(passage.text for passage in together) == "".join(lines)


@given(st.text())
def test_space_goes_but_for_one_between_words(text: str) -> None:
    said = without_space(text)
    assert without_space(said) == said
    assert "".join(said.split()) == "".join(text.split())
    assert "  " not in said


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "kind", "text"),
    [
        ("一者白線", "一者&KR0001;線", "missing gaiji", "一者〓線"),
        ("一者白線", "一者[竹-二+布]線", "missing gaiji", "一者〓線"),
        ("一者白線", "一者\ue001線", "missing gaiji", "一者〓線"),
        ("一者白線", "一者白＋（黑）【宋】【元】線", "unknown markup", "一者白線"),
        ("一者白線", "一者<i>白線", "unknown markup", "一者白線"),
    ],
)
def test_a_kanripo_line_s_fault_is_named_and_the_rest_goes_in(
    tmp_path: Path, old: str, new: str, kind: str, text: str
) -> None:
    imported = kanripo(tmp_path, edit=(old, new))
    line = line_of(KANRIPO["KX0001_001.txt"], old)
    assert told(imported) == [f"KX0001_001.txt:{line}: {kind}"]
    assert imported.passages[0].text == FIRST.replace("一者白線", text)


def test_an_unknown_directive_is_named(tmp_path: Path) -> None:
    imported = kanripo(tmp_path, edit=("* 經線", "#+BEGIN_LOOM\n* 經線"))
    assert told(imported) == [f"KX0001_001.txt:{line_of(KANRIPO['KX0001_001.txt'], '* 經線')}: unknown markup"]
    assert len(imported.passages) == 4


def test_a_reference_that_runs_backwards_is_named_and_what_stands_there_left_out(tmp_path: Path) -> None:
    imported = kanripo(tmp_path, edit=("<pb:KX0001_T_001-0001b>", "<pb:KX0001_T_001-0000b>"))
    line = line_of(KANRIPO["KX0001_001.txt"], "線。謂未染")
    assert told(imported)[0] == f"KX0001_001.txt:{line}: reference runs backwards"
    assert imported.passages[0].text == FIRST.partition("線。謂未染")[0]
    assert imported.passages[-1].text == FOURTH
    places = [place for passage in imported.passages for place in passage.lines.places]
    assert places == sorted(places)


def test_cbeta_s_reference_that_runs_backwards_is_named(tmp_path: Path) -> None:
    imported = cbeta(tmp_path, 'n="0001b04"', 'n="0001a04"')
    assert told(imported) == [f"T99n9999.xml:{line_of(CBETA, '0001b04')}: reference runs backwards"]
    assert [passage.text for passage in imported.passages] == [FIRST, VERSE, FOURTH]


def test_a_fascicle_that_comes_twice_is_taken_once(tmp_path: Path) -> None:
    files = {**KANRIPO, "KX0001_003.txt": KANRIPO["KX0001_002.txt"]}
    imported = read_kanripo(folder_of(tmp_path, files))
    assert told(imported) == ["KX0001_003.txt:7: fascicle twice"]
    assert "KX0001_002.txt:7" in imported.faults.all[0].what
    assert [passage.text for passage in imported.passages] == [FIRST, VERSE, THIRD, FOURTH]


def test_cbeta_s_fascicle_that_comes_twice_is_taken_once(tmp_path: Path) -> None:
    files = {"T99n9999.xml": CBETA, "T99n9999_002.xml": CBETA}
    imported = read_cbeta(folder_of(tmp_path, files))
    assert [each.partition(": ")[2] for each in told(imported)] == ["fascicle twice"] * 2
    assert len(imported.passages) == 4


@pytest.mark.parametrize("encoding", ["big5", "gb18030"])
def test_a_line_in_another_encoding_is_named_and_left_out(tmp_path: Path, encoding: str) -> None:
    folder = folder_of(tmp_path, KANRIPO)
    rows = KANRIPO["KX0001_001.txt"].encode().split(b"\n")
    line = line_of(KANRIPO["KX0001_001.txt"], "問經線有幾種")
    rows[line - 1] = "問經線有幾種".encode(encoding)
    (folder / "KX0001_001.txt").write_bytes(b"\n".join(rows))
    imported = read_kanripo(folder)
    assert told(imported) == [f"KX0001_001.txt:{line}: not UTF-8"]
    assert imported.passages[0].text == FIRST[FIRST.index("二者青線") :]
    assert imported.passages[0].place == "T99n9999_p0001a11"  # the lost line is counted


@pytest.mark.parametrize("importer", ["kanripo", "text"])
def test_a_file_in_another_encoding_is_named_once_and_left_out(tmp_path: Path, importer: str) -> None:
    folder = folder_of(tmp_path, KANRIPO)
    (folder / "KX0001_001.txt").write_bytes(KANRIPO["KX0001_001.txt"].encode("big5", "replace"))
    imported = IMPORTERS[importer](folder)
    assert next(fault.kind for fault in imported.faults.all if fault.file == "KX0001_001.txt") == "not UTF-8"
    assert {passage.source.partition(":")[0] for passage in imported.passages} == {"KX0001_002.txt"}


def test_utf_16_that_says_so_is_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {})
    (folder / "a.txt").write_bytes("經線。\r\n緯線。".encode("utf-16"))
    assert [passage.text for passage in read_plain(folder).passages] == ["經線。緯線。"]


@pytest.mark.parametrize(
    ("old", "new", "kind", "text"),
    [
        ('ref="#CB1"', 'ref="#CB3"', "missing gaiji", FIRST.replace("問經線", "問經〓")),
        ('ref="#CB1"', 'ref="#CB9"', "missing gaiji", FIRST.replace("問經線", "問經〓")),
        ("一者白線", "一者<loom>白線</loom>", "unknown markup", FIRST),
        ('<lb n="0001a07" ed="T"/>', '<lb n="7" ed="T"/>', "no reference", FIRST),
    ],
)
def test_a_cbeta_element_s_fault_is_named_and_the_rest_goes_in(
    tmp_path: Path, old: str, new: str, kind: str, text: str
) -> None:
    imported = cbeta(tmp_path, old, new)
    assert told(imported) == [f"T99n9999.xml:{line_of(CBETA, old)}: {kind}"]
    assert imported.passages[0].text == text


def test_a_broken_file_is_named_with_its_line_and_the_others_go_in(tmp_path: Path) -> None:
    broken = CBETA.replace("<p>頌已說訖。</p>", "<p>頌已說訖。</q>")
    imported = read_cbeta(folder_of(tmp_path, {"T99n9999.xml": CBETA, "T99n9998.xml": broken, "empty.xml": ""}))
    assert sorted(told(imported)) == [
        f"T99n9998.xml:{line_of(CBETA, '頌已說訖')}: broken file",
        "empty.xml:1: broken file",
    ]
    assert len(imported.passages) == 4


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("白<sic>線</sic>", "白線"),  # with nothing beside it to choose
        ("白<choice><sic>布</sic><corr>線</corr></choice>", "白線"),
        ("<choice><orig>白</orig><reg>素</reg></choice>線", "白線"),
        ("<choice><abbr>白線</abbr><expan>白色線</expan></choice>", "白線"),
        ('白<foreign xml:lang="sa">śukla</foreign>線', "白線"),
        ('白<foreign xml:lang="zh-Hant">線</foreign>', "白線"),
        ("<app><lem>白<app><lem>線</lem><rdg>布</rdg></app></lem><rdg>青</rdg></app>", "白線"),
        ('a<hi>b</hi> c<lb n="0001a06" ed="T"/>d<seg>e</seg>', "ab c de"),  # no word is cut by a tag
    ],
)
def test_cbeta_s_markup_within_a_line(tmp_path: Path, markup: str, text: str) -> None:
    imported = cbeta(tmp_path, "一者白線", f"一者{markup}")
    assert imported.passages[0].text == FIRST.replace("一者白線", f"一者{text}") and told(imported) == []


@pytest.mark.parametrize("markup", ["<unclear/>", '<gap reason="damage"/>'])
def test_what_cannot_be_read_in_print_is_a_missing_character(tmp_path: Path, markup: str) -> None:
    imported = cbeta(tmp_path, "一者白線", f"一者{markup}線")
    assert imported.passages[0].text == FIRST.replace("一者白線", "一者〓線")
    assert told(imported) == [f"T99n9999.xml:{line_of(CBETA, '一者白線')}: missing gaiji"]


def test_a_verse_s_title_is_its_heading_and_verses_of_one_line_stay_apart(tmp_path: Path) -> None:
    imported = cbeta(tmp_path, "<l>金線如朝日</l><l>織者應善知」</l>", "<l>金線如朝日　織者應善知」</l>")
    assert imported.passages[1].text == VERSE
    titled = cbeta(tmp_path, "<lg>", "<lg><head>線頌</head>").passages[1]
    assert (titled.text, titled.heading, titled.verse) == (VERSE, "線頌", True)


def test_kanripo_s_verses_of_one_row_stay_apart(tmp_path: Path) -> None:
    imported = kanripo(tmp_path, edit=("金線如朝日\n", "金線如朝日"))
    assert imported.passages[1].text == VERSE and told(imported) == []


@pytest.mark.parametrize("note", ["(白色也)", "(白/色)", "(白色¶\n也)"])
def test_kanripo_s_notes_between_the_lines_are_left_out(tmp_path: Path, note: str) -> None:
    imported = kanripo(tmp_path, edit=("一者白線", f"一者{note}白線"))
    assert imported.passages[0].text == FIRST and told(imported) == []


def test_a_note_without_end_takes_no_more_than_its_paragraph(tmp_path: Path) -> None:
    imported = kanripo(tmp_path, edit=("一者白線", "一者(白線"))
    assert [passage.text for passage in imported.passages] == [FIRST.partition("白線")[0], VERSE, THIRD, FOURTH]
    assert told(imported) == [f"KX0001_001.txt:{line_of(KANRIPO['KX0001_001.txt'], '一者白線')}: unknown markup"]


@pytest.mark.parametrize("importer", sorted(IMPORTERS))
def test_a_file_that_cannot_be_read_is_named_and_the_others_go_in(tmp_path: Path, importer: str) -> None:
    ending = "xml" if importer == "cbeta" else "txt"
    content = {"cbeta": CBETA, "kanripo": KANRIPO["KX0001_002.txt"], "text": "經線。"}[importer]
    folder = folder_of(tmp_path, {f"X_002.{ending}": content})
    (folder / f"X_001.{ending}").symlink_to(tmp_path / "nowhere")
    (folder / f"X_003.{ending}").mkdir()
    imported = IMPORTERS[importer](folder)
    assert told(imported) == [f"X_00{number}.{ending}:1: unreadable file" for number in (1, 3)]
    assert imported.passages and list(imported.files) == [f"X_002.{ending}"]


@pytest.mark.parametrize(
    "hostile",
    [
        '<!DOCTYPE TEI [<!ENTITY % p SYSTEM "{secret}">%p;]>',
        '<!DOCTYPE TEI SYSTEM "{secret}">',
        "<!DOCTYPE TEI [" + "".join(
            f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "線" * 10}">' for n in range(12)
        ) + "]>",
    ],
)  # fmt: skip
def test_a_doctype_fetches_and_swells_nothing(tmp_path: Path, hostile: str) -> None:
    (secret := tmp_path / "secret").write_text('<!ENTITY s "不可見">')
    doctype = hostile.replace("{secret}", secret.as_uri())
    swollen = CBETA.replace("?>\n", f"?>{doctype}\n", 1)
    for old, new in [("一者白線", "一者&e11;&s;線"), ('type="pin"', 'type="&e11;"')]:
        imported = read_cbeta(folder_of(tmp_path, {"T99n9999.xml": swollen.replace(old, new, 1)}))
        text = "".join(passage.text for passage in imported.passages)
        assert len(text) < 200 and "不可見" not in text


def test_entities_are_neither_expanded_nor_fetched(tmp_path: Path) -> None:
    (secret := tmp_path / "secret").write_text("不可見")
    doctype = f"""<!DOCTYPE TEI [<!ENTITY a "線"><!ENTITY b "&a;&a;"><!ENTITY file SYSTEM "{secret.as_uri()}">]>"""
    text = CBETA.replace("?>\n", f"?>{doctype}\n", 1).replace("一者白線", "一者&b;&file;線")
    imported = read_cbeta(folder_of(tmp_path, {"T99n9999.xml": text}))
    assert [each.partition(": ")[2] for each in told(imported)] == ["missing gaiji"] * 2
    assert imported.passages[0].text == FIRST.replace("一者白線", "一者〓〓線")


def test_a_deeply_nested_file_is_read(tmp_path: Path) -> None:
    """As deep as the XML library lets a file be."""
    imported = cbeta(tmp_path, "一者白線", "<seg>" * 200 + "一者白線" + "</seg>" * 200)
    assert imported.passages[0].text == FIRST and told(imported) == []


@pytest.mark.parametrize("importer", sorted(IMPORTERS))
def test_nothing_to_import_is_said_and_nothing_written(
    tmp_path: Path, importer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="no such file or folder"):
        import_text(importer, tmp_path / "nowhere", "")
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.(txt|xml) file"):
        import_text(importer, empty, "")
    file = empty / ("a.xml" if importer == "cbeta" else "a.txt")
    file.write_bytes(b"\xff\x00\xfa\n" * 9)
    with pytest.raises(UserError, match=r"no passage found in 1 files; nothing was written"):
        import_text(importer, empty, "")
    assert not (tmp_path / "corpus/texts").exists()


def read_again(passage: Passage) -> Passage:
    return parsed(dumps(passage.row()), Passage, "passages.jsonl", "the importer")


@given(data=st.binary(max_size=400))
def test_no_bytes_are_worse_than_a_fault(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    header = b"#+PROPERTY: JUAN 1\n#+PROPERTY: LASTPB <pb:K_T_001-0001a>\n"
    for name, content in [("a_001.txt", data), ("b_001.txt", header + data), ("c.xml", data)]:
        (folder / name).write_bytes(content)
    for read in (read_kanripo, read_cbeta, read_plain):
        for passage in read(folder).passages:
            assert read_again(passage) == passage


# --- the folder -------------------------------------------------------------------------------------------------------


def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a corpus and params/, gone to."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "data.dvc").write_text("deps:\n- path: corpus\n")
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_import_is_read_back_as_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    source = folder_of(tmp_path, {**KANRIPO, "LICENSE": "Weave freely.\n"}, "KX0001")
    result = CliRunner().invoke(app, ["import", "kanripo", str(source)])
    assert result.exit_code == 0, result.output
    folder = text_folder("T99n9999")
    assert folder == Path("corpus/texts/T99n9999") and text_folder(str(folder)) == folder
    assert read_passages(folder) == read_kanripo(source).passages
    manifest = read_manifest(folder)
    assert manifest.licence == "Weave freely."
    assert manifest.counts.model_dump() == {
        "fascicles": 2,
        "passages": 4,
        "lines": 7,
        "characters": sum(map(len, [FIRST, VERSE, THIRD, FOURTH])),
    }
    assert manifest.files == {
        name: hashlib.sha256((source / name).read_bytes()).hexdigest() for name in KANRIPO
    }  # fmt: skip


def test_an_import_again_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    source = folder_of(tmp_path, KANRIPO, "KX0001")
    first = {path.name: path.read_bytes() for path in import_text("kanripo", source, "loom").iterdir()}
    assert {path.name: path.read_bytes() for path in import_text("kanripo", source, "loom").iterdir()} == first


def test_a_failed_import_leaves_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    folder = import_text("text", folder_of(tmp_path, PLAIN, "loom"), "")
    before = read_passages(folder)
    shutil.rmtree(tmp_path / "loom")
    with pytest.raises(UserError, match="no passage"):
        import_text("text", folder_of(tmp_path, {"a.txt": "\n"}, "loom"), "")
    assert read_passages(folder) == before


def test_passages_that_were_edited_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    folder = import_text("text", folder_of(tmp_path, PLAIN, "loom"), "")
    (folder / PASSAGES).write_text((folder / PASSAGES).read_text().replace("三種", "四種"))
    with pytest.raises(UserError, match="is not what was imported"):
        read_passages(folder)
    with pytest.raises(UserError, match="no imported text"):
        read_passages(tmp_path)
    with pytest.raises(UserError, match="imported: loom"):
        text_folder("room")


@pytest.mark.parametrize(
    "lines", [[], [[1, "x:1"]], [[0, "x:1"], [0, "x:2"]], [[0, "x:1"], [9, "x:2"]], [[0, "x:2"]]]
)  # fmt: skip
def test_lines_that_cannot_be_are_refused(lines: list[list[Any]]) -> None:
    with pytest.raises(UserError, match=r"lines|place"):
        row = {"text": "經線", "fascicle": 1, "place": "x:1", "lines": lines, "source": "x:1"}
        parsed(dumps(row), Passage, "x", "the importer")


def test_a_position_outside_the_text_has_no_place() -> None:
    passage = Passage(text="經線", fascicle=1, place="x:1", lines=Lines([0], ["x:1"]), source="x:1")
    for offset in (-1, 2):
        with pytest.raises(IndexError):
            passage.at(offset)


# --- as a source ------------------------------------------------------------------------------------------------------

TEXT = {"type": "text", "text": "texts/loom"}
SUMS = {"type": "jsonl", "files": "sums.jsonl", "answer_type": "number"}


def data_folder(tmp_path: Path) -> Path:
    """Sums without text of their own, and an imported text."""
    data = tmp_path / "data"
    (data / "texts").mkdir(parents=True)
    rows = [{"prompt": f"{number} + 1 = ?", "answer": number + 1} for number in range(60)]
    (data / "sums.jsonl").write_text("".join(dumps(row) + "\n" for row in rows))
    text = "\n\n".join(f"第{number}線後為經線。其次緯線者橫。" for number in range(40))
    imported = read_plain(folder_of(tmp_path, {"a.txt": text}))
    write_passages(
        data / "texts/loom", imported.passages, [], data / "texts", importer="text", works=imported.works, edition="",
        licence="", files={}, faults={},
    )  # fmt: skip
    return data


def text_lines(data: Path, sources: dict[str, Any]) -> list[str]:
    params = validated(QuestionParams, {"seed": 1, "sources": sources}, "params/questions.yaml")
    return gather(
        {name: opened(name, source, data, 1) for name, source in params.sources.items()}, params, CONVERTER
    ).text  # fmt: skip


def test_a_text_gives_its_lines_and_no_question(tmp_path: Path) -> None:
    data = data_folder(tmp_path)
    lines = text_lines(data, {"sums": SUMS, "loom": TEXT})
    assert len(lines) == 40 and lines[0] == "第0线后为经线。其次纬线者横。"
    assert text_lines(data, {"sums": SUMS, "loom": {**TEXT, "script": "as written"}})[0].startswith("第0線後")
    some = text_lines(data, {"sums": SUMS, "loom": {**TEXT, "lines": 7}})
    assert len(some) == 7 and some == [line for line in lines if line in some], "in the text's order"


def test_a_share_is_of_all_lines(tmp_path: Path) -> None:
    data = data_folder(tmp_path)
    sources = {"sums": SUMS, "all": TEXT, "loom": {**TEXT, "share": 0.2}}
    assert len(text_lines(data, sources)) == 50  # 40 and a fifth of 50
    with pytest.raises(UserError, match="leaves room for others"):
        text_lines(data, {"sums": SUMS, "loom": {**TEXT, "share": 0.2}})
    with pytest.raises(UserError, match="160 lines are declared of texts/loom, which has 40"):
        text_lines(data, {"sums": SUMS, "all": TEXT, "loom": {**TEXT, "share": 0.8}})


def test_lines_and_a_share_are_not_both_declared() -> None:
    with pytest.raises(UserError, match="leave one out"):
        validated(TextSource, {**TEXT, "lines": 3, "share": 0.5}, "x")


def test_a_text_elsewhere_leaves_the_lines_of_a_source_as_they_are(tmp_path: Path) -> None:
    data = data_folder(tmp_path)
    source = opened("loom", TextSource(type="text", text="texts/loom", lines=5), data, 1)
    assert isinstance(source, ImportedText) and list(source.text()) == list(source.text())
    assert list(source.entries()) == [] and list(source.unread()) == []


@given(st.text(st.sampled_from("經線。，　 a"), max_size=80), st.integers(1, 20))
def test_lines_are_no_longer_than_declared_and_lose_nothing_but_space(text: str, length: int) -> None:
    lines = list(cut(text, length))
    assert all(0 < len(line) <= length for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


# --- the audit of the script ------------------------------------------------------------------------------------------


def passages_of(*texts: str) -> list[Passage]:
    return [
        Passage(text=text, fascicle=1, place=f"x:{number}", lines=Lines([0], [f"x:{number}"]), source=f"x:{number}")
        for number, text in enumerate(texts, 1)
    ]


def found(*texts: str, terms: dict[str, str] | None = None) -> set[tuple[str, str, str, int, int]]:
    terms = dictionary(ROOT / "params/opencc.json") if terms is None else terms
    findings = script_findings(passages_of(*texts), CONVERTER, terms, most_places=2)
    return {(each.kind, each.before, each.after, each.count, each.of) for each in findings}


def test_a_character_that_the_dictionary_keeps_is_shown_where_it_is_changed() -> None:
    kinds = found("尼乾說乾草。", "乾草。")
    assert ("against the dictionary", "乾", "干", 2, 3) in kinds
    assert {("in more than one way", "乾", "干", 2, 3), ("in more than one way", "乾", "乾", 1, 3)} <= kinds


def test_a_term_that_comes_out_otherwise_than_its_entry_says_is_shown() -> None:
    assert ("against the dictionary", "線後", "线后", 2, 2) not in found("線後線後", terms={"線後": "线后"})
    assert ("against the dictionary", "線後", "线后", 2, 2) in found("線後線後", terms={"線後": "线後"})


def test_characters_that_are_one_in_simplified_are_counted_with_places() -> None:
    findings = list(script_findings(passages_of("前後後", "後"), CONVERTER, {}, most_places=2))
    (after,) = [each for each in findings if each.before == "後"]
    assert (after.kind, after.after, after.count, after.of) == ("ambiguous on the way back", "后", 3, 3)
    assert after.places == [("x:1", "前後後"), ("x:1", "前後後")]
    assert not [each for each in findings if each.before == "前"]


def test_the_audit_of_an_import_names_its_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    import_text("text", folder_of(tmp_path, {"a.txt": "尼乾。\n\n乾草。\n"}, "loom"), "")
    result = CliRunner().invoke(app, ["audit", "script", "loom"])
    assert result.exit_code == 0, result.output
    assert "a.txt:3 乾草。" in result.output


# --- the canon, where it is there -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def canon() -> Imported:
    if not CANON.is_dir():
        pytest.skip(NO_CANON)
    return read_kanripo(CANON)


def test_the_canon_s_fascicles_are_whole(canon: Imported) -> None:
    assert sorted({passage.fascicle for passage in canon.passages}) == sorted(
        int(path.stem.rpartition("_")[2]) for path in CANON.glob("*.txt")
    )
    assert set(canon.faults.counts()) <= {"missing gaiji", "unknown markup"}
    assert all(read_again(passage) == passage for passage in canon.passages)
    assert not [
        passage for passage in canon.passages if re.search(r"[\s¶<>#&\[\]【】]", passage.text.replace("　", ""))
    ]
    assert all(passage.heading for passage in canon.passages)


def test_the_canon_s_lines_are_the_printed_ones(canon: Imported) -> None:
    """Against the files themselves, by another way: 29 lines a column, each found under its own number."""
    places = {place: (passage, start) for passage in canon.passages for start, place in passage.lines.pairs()}
    assert max(int(place[-2:]) for place in places) == 29
    draw = random.Random(1)
    for path in draw.sample(sorted(CANON.glob("*.txt")), 5):
        columns = re.split(r"<pb:[^>]*-(\d{4}[abc])>", path.read_text())
        for column, text in zip(columns[3:-2:2], columns[4:-2:2], strict=True):  # the first is LASTPB's
            for number, line in enumerate(text.split("¶")[1:], 1):
                words = line.strip()
                if re.fullmatch("[一-鿿。]{8,}", words) and (at := places.get(f"T27n1545_p{column}{number:02d}")):
                    assert at[0].text.startswith(words, at[1]), (column, number, words)

"""Questions that a text itself asks: each pattern with its traps, the files that a person reviews, the source of them.

All sentences here are made up, but for those of the sample of real text, which is looked at where it is there.
"""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CANON, NO_CANON, ROOT
from pydantic import ValidationError

from tasks import evaluate
from upaya.corpus.authored import Elements
from upaya.corpus.extracting.amounts import elements_places_aggregates
from upaya.corpus.extracting.causes import CAUSES, Gate, gates_of_causes
from upaya.corpus.extracting.enumerations import enumerations, own_nature_count, whether_there_is
from upaya.corpus.extracting.extension import extension_of_terms
from upaya.corpus.extracting.files import Extracted, ExtractedFile, read_extracted, read_table
from upaya.corpus.extracting.kinds import KINDS
from upaya.corpus.extracting.pairs import conditions_of_pair
from upaya.corpus.extracting.patterns import declared_kinds
from upaya.corpus.extracting.reading import Finding, counted
from upaya.corpus.gathering import Gathered, gather
from upaya.corpus.questions import SPLITS
from upaya.corpus.script import Converter
from upaya.corpus.sources.opened import opened
from upaya.corpus.texts.kanripo import read_kanripo
from upaya.declared.evaluation import Evaluation
from upaya.declared.extracting import ExtractingParams
from upaya.declared.questions import QuestionParams
from upaya.declared.validation import validated
from upaya.errors import UserError
from upaya.files import write_jsonl
from upaya.operating.extracting import extract
from upaya.operating.importing import import_text

CONVERTER = Converter(ROOT / "params/opencc.json")
TEXT = "T27n1545"


def found(extractor: Callable[[str], Iterator[Finding]], text: str) -> dict[str, Any]:
    """Question → answer; every span has to be a part of the text."""
    findings = list(extractor(text))
    assert all(0 <= finding.start < finding.end <= len(text) for finding in findings)
    return {finding.question: finding.answer for finding in findings}


@pytest.mark.parametrize(
    ("numeral", "value"),
    [
        ("一", 1), ("兩", 2), ("十", 10), ("十一", 11), ("二十", 20), ("九十八", 98), ("百八", 108), ("百", 100),
        ("三百", 300), ("一百二十", 120), ("千", 1000),
    ],
)  # fmt: skip
def test_numerals_in_all_forms(numeral: str, value: int) -> None:
    assert counted(numeral) == value


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("甲色與乙色為幾緣。答因。增上。因者一因。", {"甲色與乙色為幾緣": ["因", "增上"]}),
        ("甲色與乙色為幾緣。答一增上增上義如前說。", {"甲色與乙色為幾緣": ["增上"]}),
        ("甲色與乙色為幾緣答等無間所緣增上。等無間者。", {"甲色與乙色為幾緣": ["等無間", "所緣", "增上"]}),
        ("甲色。與乙色。為幾緣。答。所緣。增上。所緣增上義皆如前。", {"甲色與乙色為幾緣": ["所緣", "增上"]}),
        ("增上者如前說甲色與乙色為幾緣。答因增上。因者。", {"甲色與乙色為幾緣": ["因", "增上"]}),
        ("因相應法與乙色為幾緣。答因。增上。因者。", {"因相應法與乙色為幾緣": ["因", "增上"]}),
        ("甲色與乙色為幾緣。答無。", {}),  # no set
        ("即彼甲色與乙色為幾緣。答因。", {}),  # whose is 彼?
        ("現在甲。色與乙色為幾緣。答因。", {}),  # a term cut by a mark
        ("有說。甲色與乙色為幾緣。答因。", {}),
        ("有說不爾。評曰應作是說。甲色與乙色為幾緣。答因。", {"甲色與乙色為幾緣": ["因"]}),
    ],
)
def test_conditions_of_a_pair(text: str, answers: dict[str, Any]) -> None:
    assert found(conditions_of_pair, text) == answers


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("問諸甲彼亦乙耶。答應作四句。有甲非乙。", {"諸甲彼亦乙": "四句"}),
        ("問諸甲彼亦乙耶。答應作順前句。", {"諸甲彼亦乙": "順前句"}),
        ("若法是甲彼亦是乙耶。答應作順後句。", {"若法是甲彼亦是乙": "順後句"}),
        ("問若法是甲彼亦是乙耶。答若法是甲彼亦是乙。有法是乙彼非甲。", {"若法是甲彼亦是乙": "順前句"}),
        ("問若法是甲彼亦是乙耶。答若法是乙彼亦是甲。有法是甲彼非乙。", {"若法是甲彼亦是乙": "順後句"}),
        ("諸無甲皆未離乙耶。答諸未離乙皆無甲。有無甲非未離乙。", {"諸無甲皆未離乙": "順後句"}),
        ("若成就甲。彼乙耶。答如是。設成就乙。彼甲耶。答如是。", {"若成就甲彼乙": "如是"}),
        ("問諸甲彼皆乙耶。答不爾。所以者何。", {"諸甲彼皆乙": "不爾"}),
        ("諸甲彼乙耶。設乙彼甲耶。答應作四句。", {"諸甲彼乙": "四句"}),
        ("諸甲彼乙耶。設乙彼甲耶。答諸乙彼甲。有甲非乙。", {"諸甲彼乙": "順後句"}),
        ("諸甲彼乙耶。設乙彼甲耶。答不爾。", {}),  # which of the two?
        ("諸甲。彼乙耶。答諸甲。彼非乙。有乙非甲。", {}),
        ("若成就甲。彼乙耶。答如是。設成就乙。彼甲耶。答有非甲。", {}),  # 如是 is half of the answer
        ("問設乙彼亦甲耶。答應作四句。", {}),  # 設: the subject stands in the question before
        ("問此甲若乙者亦丙耶。答應作四句。", {}),
        ("問頗有甲不成就乙耶。答應作四句。", {}),  # not of two terms
        ("問增長甲一切時修乙耶。答不爾。", {}),
        ("諸甲彼亦乙耶。答諸甲彼亦乙。如前說。", {}),  # the converse is not denied
        ("若生甲若諸學者。能成就乙。彼丙耶。答應作四句。", {}),  # two beginnings run together
        ("有餘於此作增益文。諸甲彼亦乙耶。答應作四句。", {}),
        ("諸甲彼亦乙耶。答有說應作四句。", {}),
    ],
)
def test_the_extension_of_two_terms(text: str, answers: dict[str, Any]) -> None:
    assert found(extension_of_terms, text) == answers


AWAY = "，餘法幾界幾處幾蘊攝"


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("除甲法及法處。餘法十六界十處二蘊攝。", {f"除甲法及法處{AWAY}": ["十六", "十", "二"]}),
        ("為欲遮遣除甲法及法處餘法二界一處一蘊攝。", {f"除甲法及法處{AWAY}": ["二", "一", "一"]}),
        (
            "除甲法及法處餘法七界一處一蘊攝。除乙法丙法及法處說亦爾。",
            {f"除{name}及法處{AWAY}": ["七", "一", "一"] for name in ("甲法", "乙法", "丙法")},
        ),
        ("除甲法及法處餘法七界一處一蘊攝。除乙法及丁法說亦爾。", {f"除甲法及法處{AWAY}": ["七", "一", "一"]}),
        ("除甲法及法處。餘法十界一界少分十一處二蘊攝。", {}),  # ten and a part
        ("除甲法及法處。餘法謂無漏心。十六界十處二蘊攝。", {}),
        ("除甲法及法處。餘法十九界十處二蘊攝。", {}),  # there are eighteen
        ("除甲法及法處。餘法三界九處一蘊攝。此中甲法如前說。是故此法三界九處二蘊攝。", {}),  # a slip
        ("除此法及法處。餘法三界九處一蘊攝。", {}),
    ],
)
def test_elements_places_and_aggregates(text: str, answers: dict[str, Any]) -> None:
    assert found(elements_places_aggregates, text) == answers


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("善樹有三種。一春樹。二夏樹。三秋樹。春樹者。", {"善樹有三種": ["春樹", "夏樹", "秋樹"]}),
        ("謂初定有五支。一尋二伺三喜四樂五心一境性。", {"初定有五支": ["尋", "伺", "喜", "樂", "心一境性"]}),
        ("外人執有四種樹。一名甲。二名乙。三名丙。四名丁。", {"外人執有四種樹": ["甲", "乙", "丙", "丁"]}),
        ("中樹復有三種。一者甲。二者乙。三者丙。", {"中樹有三種": ["甲", "乙", "丙"]}),
        ("善樹有三種。一春樹。二夏樹。", {}),
        ("善樹有三種。一春樹。二夏樹。三秋樹。四冬樹。", {}),
        ("善樹有三種。一春樹。二春樹。三秋樹。", {}),
        ("善樹有三種。一謗物體故。二謗果故。三謗因故。", {}),  # sentences
        ("善樹有二種。一春樹。二夏樹。", {}),
        ("契經中說食有三種。一甲食。二乙食。三丙食。", {"食有三種": ["甲食", "乙食", "丙食"]}),
        ("此有三種。一春樹。二夏樹。三秋樹。", {}),
        ("西方師說。善樹有三種。一春樹。二夏樹。三秋樹。", {}),
    ],
)
def test_enumerations(text: str, answers: dict[str, Any]) -> None:
    assert found(enumerations, text) == answers


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("頗有甲法造乙色耶。答有。謂某。", {"頗有甲法造乙色": True}),
        ("頗有甲法造乙色耶。答無。", {"頗有甲法造乙色": False}),
        ("於十智中。頗有一智知一切耶。答有。", {}),
        ("論說。頗有甲法造乙色耶。答有。", {}),  # a quotation
        ("頗有甲法造乙色耶。答有說是。", {}),
        ("頗有甲法造乙色耶。答無。問何故言無。答應說有。", {}),
        ("頗有此法造乙色耶。答有。", {}),
    ],
)
def test_whether_there_is(text: str, answers: dict[str, Any]) -> None:
    assert found(whether_there_is, text) == answers


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("問三不善根以何為自性。答以十五事為自性。", {"三不善根以幾事為自性": 15}),
        ("問此三不善根以何為自性。答以十五事為自性。", {"三不善根以幾事為自性": 15}),
        ("問此三漏以何為自性。答以百八事為自性。謂。", {"三漏以幾事為自性": 108}),
        ("問此根以何為自性。答以十五事為自性。", {}),
        ("問三根以何為自性。答有說以十五事為自性。", {}),
        ("問三根以何為自性。答以四蘊五蘊為自性。", {}),
    ],
)
def test_of_how_many_things_a_nature_consists(text: str, answers: dict[str, Any]) -> None:
    assert found(own_nature_count, text) == answers


def gates(text: str) -> dict[str, dict[str, str]]:
    return {
        gate.name: {cause[:2]: "及".join(held) for cause, held in gate.values.items()}
        for gate in gates_of_causes(text)
        if isinstance(gate, Gate)
    }


def test_a_gate_gives_every_cause_its_values() -> None:
    all_three = "善及不善及無記"
    assert gates("問此六因幾善幾不善幾無記。答一唯善謂相應因。二唯不善無記謂俱有同類因。餘通三種。") == {
        "善／不善／無記": {"相應": "善", "俱有": "不善及無記", "同類": "不善及無記"}
        | dict.fromkeys(("遍行", "異熟", "能作"), all_three)
    }


def test_a_number_that_names_no_causes_is_of_all_the_others() -> None:
    assert gates("問此六因幾有為幾無為。答五唯有為一通有為無為謂能作因。")["有為／無為"]["遍行"] == "有為"
    assert gates("問此六因幾有為幾無為。答四唯有為一通有為無為謂能作因。") == {}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("三唯甲謂相應俱有因。餘通二種。", "三 is stated and 2 are named"),
        ("二唯甲謂相應俱有因。一唯乙謂俱有因。餘通二種。", "named twice"),
        ("二唯甲謂相應俱有因。", "not named"),
        ("二唯甲謂相應大因。餘通二種。", "names no causes"),
    ],
)
def test_the_stated_number_has_to_be_the_causes_named(answer: str, why: str) -> None:
    (said,) = gates_of_causes(f"問此六因幾甲幾乙。答{answer}")
    assert isinstance(said, str) and why in said


def test_pairs_that_are_alike_have_the_values_in_their_own_names() -> None:
    text = "問此六因幾是甲幾非甲。答二唯非甲。謂相應遍行因餘通甲非甲。如甲非甲有乙無乙。是丙非丙丁不丁黑白亦爾。"
    table = gates(text)
    assert list(table) == ["甲／非甲", "有乙／無乙", "丙／非丙", "丁／不丁", "黑／白"]
    assert table["丁／不丁"]["相應"] == "不丁" and table["黑／白"]["俱有"] == "黑及白"


def test_a_value_that_only_the_answer_has_is_one_more_alternative() -> None:
    table = gates("問此六因幾欲界繫幾色界繫。答二唯三界繫謂遍行異熟因。餘通三界繫及不繫。")
    assert table["欲界繫／色界繫／不繫"]["遍行"] == "欲界繫及色界繫"
    assert table["欲界繫／色界繫／不繫"]["相應"] == "欲界繫及色界繫及不繫"


# --- the files and the source ---


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what extraction reads: a pointer to the corpus, patterns, no text yet."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "params").mkdir()
    (tmp_path / "data.dvc").write_text("deps: [{path: corpus}]\n")
    (tmp_path / "params/extracting.yaml").write_text("patterns: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(project: Path, *paragraphs: str, name: str = "mine") -> None:
    folder = project / "plain" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1.txt").write_text("\n\n".join(paragraphs) + "\n")
    import_text("text", folder, name)


PAIR = "甲色與乙色為幾緣。答因。增上。"
OTHER = "丙色與丁色為幾緣。答一增上。"


def entries(project: Path, kind: str = "conditions_of_pair") -> list[Extracted]:
    return read_extracted(project / "corpus", "mine", kind).entries


def changed(project: Path, change: Callable[[list[dict[str, Any]]], object], kind: str = "conditions_of_pair") -> Path:
    path = project / f"corpus/extracted/mine-{kind}.yaml"
    content = yaml.safe_load(path.read_text())
    change(content["entries"])
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    return path


def test_what_is_extracted_stands_in_a_file_with_its_place_and_no_more_of_the_text(project: Path) -> None:
    imported(project, f"前文不取。{PAIR}因者一因。後文不取。")
    extract("mine", "某論")
    (entry,) = entries(project)
    assert (entry.passage, entry.kept, entry.place) == (PAIR, True, "1.txt:1")
    assert read_extracted(project / "corpus", "mine", "conditions_of_pair").treatise == "某論"


def test_extracting_again_keeps_what_a_person_said_and_adds_what_is_new(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(project, PAIR)
    extract("mine")

    def strike(rows: list[dict[str, Any]]) -> None:
        del rows[0]["kept"]
        rows[0] |= {"struck": "not the treatise's own view", "verdict": "wrong"}

    changed(project, strike)
    imported(project, PAIR, OTHER)
    capsys.readouterr()
    extract("mine")
    first, second = entries(project)
    assert (first.struck, first.verdict) == ("not the treatise's own view", "wrong") and second.kept
    assert "1 new" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in (project / "corpus/extracted").iterdir()}
    extract("mine")
    assert {path: path.read_bytes() for path in (project / "corpus/extracted").iterdir()} == before


def test_an_answer_that_a_person_mended_stays_and_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported(project, PAIR)
    extract("mine")
    changed(project, lambda rows: rows[0].update(answer=["所緣"]))
    extract("mine")
    assert entries(project)[0].answer == ["所緣"]
    assert "所緣 in the file stays, 因、增上 is extracted now" in " ".join(capsys.readouterr().out.split())


def test_an_entry_whose_passage_no_longer_stands_is_named_and_struck(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(project, PAIR, OTHER)
    extract("mine")
    imported(project, PAIR)
    capsys.readouterr()
    extract("mine")
    first, second = entries(project)
    assert first.kept and second.struck == "its passage no longer stands in the import"
    assert "丙色與丁色為幾緣: its passage no longer stands" in " ".join(capsys.readouterr().out.split())


def test_two_passages_that_answer_differently_are_both_shown_and_both_struck(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(project, PAIR, "甲色與乙色為幾緣。答一增上。", PAIR)
    extract("mine")
    first, second = entries(project)
    assert first.struck == "also answered 增上 at 1.txt:3" and second.struck == "also answered 因、增上 at 1.txt:1"
    assert "answered differently, all struck" in " ".join(capsys.readouterr().out.split())


def test_a_person_may_keep_one_of_two_answers(project: Path) -> None:
    imported(project, PAIR, "甲色與乙色為幾緣。答一增上。")
    extract("mine")

    def keep(rows: list[dict[str, Any]]) -> None:
        del rows[0]["struck"]
        rows[0]["kept"] = True

    changed(project, keep)
    extract("mine")
    assert [bool(entry.kept) for entry in entries(project)] == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept": None, "struck": " "}, "struck without a reason"),
        ({"kept": False}, "write why not"),
        ({"struck": "why"}, "exactly one of"),
        ({"verdict": "wrong"}, "read as wrong and kept"),
    ],
)
def test_what_is_neither_kept_nor_struck_for_a_reason_is_refused(
    project: Path, change: dict[str, Any], message: str
) -> None:
    imported(project, PAIR, OTHER)
    extract("mine")
    path = changed(project, lambda rows: rows[0].update(change))
    before = {each: each.read_bytes() for each in path.parent.iterdir()}
    with pytest.raises(UserError, match=message):
        extract("mine")
    assert {each: each.read_bytes() for each in path.parent.iterdir()} == before


def test_two_kept_answers_to_one_question_are_refused() -> None:
    row = {"question": "問", "place": "1.txt:1", "fascicle": 1, "passage": "問", "kept": True}
    with pytest.raises(ValidationError, match=r"kept with two answers, 甲 at 1\.txt:1; 乙 at 1\.txt:2"):
        ExtractedFile.model_validate(
            {
                "text": "mine", "treatise": "論", "kind": "mine", "answer_type": "term",
                "wordings": [{"text": "{question}"}],
                "entries": [row | {"answer": "甲"}, row | {"answer": "乙", "place": "1.txt:2"}],
            }
        )  # fmt: skip


def test_a_text_in_which_nothing_is_found_leaves_nothing_behind(project: Path) -> None:
    imported(project, "無此類文。")
    with pytest.raises(UserError, match="none of the patterns is in it"):
        extract("mine")
    assert not (project / "corpus/extracted").exists()


GATES = (
    "問此六因幾善幾不善幾無記。答一唯善謂相應因。餘通三種。問此六因幾有為幾無為。答五唯有為一通有為無為謂能作因。"
    "問此六因幾學幾無學。答二唯無學謂遍行異熟因。餘通二種。"
)


def gathered(project: Path, **declared: Any) -> Gathered:
    source = {"type": "extracted", "text": "mine", **declared}
    params = validated(QuestionParams, {"seed": 1, "sources": {"treatise": source}}, "params/questions.yaml")
    sources = {name: opened(name, each, project / "corpus", 1) for name, each in params.sources.items()}
    return gather(sources, params, CONVERTER)


def test_a_struck_gate_is_not_asked(project: Path) -> None:
    imported(project, GATES)
    extract("mine")
    path = project / "corpus/extracted/mine-causes_values.yaml"
    content = yaml.safe_load(path.read_text())
    review = content["reviewed"]["學／無學"]
    review["struck"] = "disputed"
    del review["kept"]
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    extract("mine")
    table = read_table(project / "corpus", "mine", "causes_values")
    assert [axis.name for axis in table.asked().axes] == ["善／不善／無記", "有為／無為"]


def test_causes_are_asked_n_gates_at_once_as_elements_are(project: Path) -> None:
    imported(project, GATES)
    extract("mine", "某論")
    questions = gathered(
        project, values={"causes_values": {2: {"train": 20, "validation": 6, "test": 10}}}, statements=5
    ).questions
    table = Elements.model_validate(
        read_table(project / "corpus", "mine", "causes_values").asked().model_dump(by_alias=True)
    ).table
    assert len(questions) == len({question.key for question in questions}) == 36  # of 6 causes × 3 × 2 ordered gates
    for question in questions:
        cause = question.reasoning
        assert question.answer_traditional == ["及".join(table[c][gate]) for c in CAUSES for gate in gates_in(question)
                                               if CONVERTER.simplify(c) == cause]  # fmt: skip
        assert (question.kind, question.answer_type, question.difficulty) == ("causes_values", "ordered_list", 2)
        assert len(question.skills) == len(question.choices) == 2


def gates_in(question: Any) -> list[str]:
    return list(question.key.split("/")[2:])


def test_more_than_there_can_be_is_refused(project: Path) -> None:
    imported(project, GATES)
    extract("mine")
    with pytest.raises(UserError, match=r"sources\.treatise\.values\.causes_values\.2.*37 questions"):
        gathered(project, values={"causes_values": {2: {"train": 20, "validation": 7, "test": 10}}})


def test_kept_entries_become_questions_with_their_place(project: Path) -> None:
    pairs = [f"{a}色與{b}色為幾緣。答{'因。增上' if a < b else '一增上'}。" for a in "甲乙丙丁" for b in "戊己庚辛"]
    imported(project, *pairs)
    extract("mine", "某論")
    questions = gathered(project, kinds=["conditions_of_pair"]).questions
    assert {question.split for question in questions} == {"train", "validation", "test"} and len(questions) == 16
    first = next(question for question in questions if question.key == "conditions_of_pair/甲色與戊色為幾緣")
    assert first.source == "某論卷一，1.txt:1" and first.answer_type == "set"
    assert "甲色與戊色為幾緣？" in first.prompt_traditional and "某論" in first.prompt_traditional


def test_an_unknown_kind_is_named_with_the_closest(project: Path) -> None:
    imported(project, PAIR)
    extract("mine")
    with pytest.raises(UserError, match=r"no such file.*did you mean 'conditions_of_pair'"):
        gathered(project, kinds=["condition_of_pairs"])
    with pytest.raises(UserError, match="neither `kinds` nor `values`"):
        gathered(project)


# --- declared patterns ---

# A page of the Nine Chapters (九章算術, of the first century), typed here.
NINE_CHAPTERS = """\
今有田廣十五步，從十六步。問為田幾何？答曰：一畝。
又有田廣十二步，從十四步。問為田幾何？答曰：一百六十八步。

今有田廣一里，從一里。問為田幾何？答曰：三頃七十五畝。
又有田廣二里，從三里。問為田幾何？答曰：二十二頃五十畝。

今有十八分之十二。問約之得幾何？答曰：三分之二。
又有九十一分之四十九。問約之得幾何？答曰：十三分之七。

今有三分之一，五分之二。問合之得幾何？答曰：十五分之十一。
今有九分之八，減其五分之一。問餘幾何？答曰：四十五分之三十一。
又有四分之三，減其三分之一。問餘幾何？答曰：十二分之五。

今有圭田廣十二步，正從二十一步。問為田幾何？答曰：一百二十六步。
今有邪田，一頭廣三十步，一頭廣四十二步，正從六十四步。問為田幾何？答曰：九畝一百四十四步。
今有箕田，舌廣二十步，踵廣五步，正從三十步。問為田幾何？答曰：一畝一百三十五步。
今有圓田，周三十步，徑十步。問為田幾何？答曰：七十五步。
"""
PROBLEMS = {
    "pattern": r"有(?P<question>[^問？]{2,40}。問[^？]{1,10})？答曰：(?P<answer>[^。]{1,20})。",
    "answer_type": "term",
    "wordings": ["《{treatise}》：今有{question}？"],
}


def declare(project: Path, **patterns: Any) -> None:
    (project / "params/extracting.yaml").write_text(yaml.safe_dump({"patterns": patterns}, allow_unicode=True))


def test_another_text_becomes_questions_by_a_declared_pattern_and_no_code(project: Path) -> None:
    declare(project, problems=PROBLEMS)
    imported(project, *NINE_CHAPTERS.split("\n\n"))
    extract("mine", "九章算術")
    questions = gathered(project, kinds=["problems"]).questions
    assert len(questions) == 13
    answers = {question.prompt_traditional: question.answer_traditional for question in questions}
    assert answers["《九章算術》：今有圓田，周三十步，徑十步。問為田幾何？"] == "七十五步"
    places = {question.source for question in questions}
    assert "九章算術卷一，1.txt:2" in places


def test_a_declared_pattern_says_what_an_answer_means_and_how_a_list_is_parted(project: Path) -> None:
    declare(
        project,
        there={
            "pattern": r"Is there (?P<question>[a-z ]+)\? (?P<answer>\w+)\.",
            "answer_type": "boolean", "answers": {"Aye": True, "No": False}, "wordings": ["Is there {question}?"],
        },
        parts={
            "pattern": r"(?P<question>The \w+) has (?P<answer>[a-z ,]+)\.",
            "answer_type": "set", "separator": ",", "wordings": ["{question} has what?"],
        },
    )  # fmt: skip
    imported(project, "Is there a sea? Aye. Is there a wall? No. Is there a way? Perhaps. The ship has a mast, a keel.")
    extract("mine")
    assert {entry.question: entry.answer for entry in entries(project, "there")} == {"a sea": True, "a wall": False}
    assert [entry.answer for entry in entries(project, "parts")] == [["a mast", "a keel"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pattern": "(?P<question>a)(b"}, "not a regular expression"),
        ({"pattern": "(?P<question>a)b"}, r"no group \(\?P<answer>"),
        ({"pattern": "a" * 1001}, "at most 1000"),
        ({"wordings": ["What?"]}, "what would be asked"),
        ({"answer_type": "terms"}, "unknown type 'terms'; did you mean 'term'"),
        ({"separator": ","}, "a term has no items"),
        ({"answer": "x"}, "unknown key 'patterns.mine.answer'"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        params = validated(ExtractingParams, {"patterns": {"mine": PROBLEMS | change}}, "params/extracting.yaml")
        declared_kinds(params, "params/extracting.yaml")


def test_a_pattern_may_not_have_the_name_of_a_kind() -> None:
    params = ExtractingParams.model_validate({"patterns": {KINDS[0].name: PROBLEMS}})
    with pytest.raises(UserError, match="a kind of its own already"):
        declared_kinds(params, "params/extracting.yaml")


def test_a_pattern_that_takes_for_ever_is_stopped_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upaya.corpus.extracting.patterns.SECONDS", 0.3)
    slow = PROBLEMS | {"pattern": "(?P<question>(a+)+)b(?P<answer>c)"}
    (kind,) = declared_kinds(ExtractingParams.model_validate({"patterns": {"slow": slow}}), "params/extracting.yaml")
    with pytest.raises(UserError, match=r"patterns\.slow\.pattern'.*repetitions within repetitions"):
        list(kind.extractor("a" * 40))
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


# --- what is in the repository, and the sample of real text ---

COUNTS = {
    "conditions_of_pair": (97, 97),
    "extension_of_terms": (52, 51),
    "elements_places_aggregates": (51, 51),
    "enumerations": (15, 15),
    "whether_there_is": (28, 27),
}


@pytest.mark.parametrize("kind", COUNTS)
def test_every_entry_was_read_and_at_least_95_of_a_hundred_are_right(kind: str) -> None:
    file = read_extracted(ROOT / "corpus", TEXT, kind)
    right = sum(entry.verdict == "right" for entry in file.entries)
    assert all(entry.verdict for entry in file.entries) and (len(file.entries), right) == COUNTS[kind]
    assert right >= 0.95 * len(file.entries) and len(file.kept) == right
    assert all(len(entry.passage) <= 120 for entry in file.entries)


def test_every_gate_was_read() -> None:
    table = read_table(ROOT / "corpus", TEXT, "causes_values")
    assert len(table.axes) == 31 and {review.verdict for review in table.reviewed.values()} == {"right"}


@pytest.mark.skipif(not CANON.is_dir(), reason=NO_CANON)
def test_the_sample_of_real_text_gives_what_is_in_the_repository(project: Path) -> None:
    passages = read_kanripo(CANON).passages
    for kind in KINDS:
        found_ones = {
            (finding.question, passage.at(finding.start), json.dumps(finding.answer))
            for passage in passages
            for finding in kind.extractor(passage.text)
        }
        if kind.name not in COUNTS:
            assert not found_ones
            continue
        file = read_extracted(ROOT / "corpus", TEXT, kind.name)
        assert {(entry.question, entry.place, json.dumps(entry.answer)) for entry in file.entries} <= found_ones
    assert sum(isinstance(gate, Gate) for passage in passages for gate in gates_of_causes(passage.text)) == 31


def test_what_is_measured_besides_is_every_question_outside_training(project: Path) -> None:
    pairs = [f"{a}色與{b}色為幾緣。答{'因。增上' if a < b else '一增上'}。" for a in "甲乙丙丁" for b in "戊己庚辛"]
    imported(project, *pairs)
    extract("mine")
    questions = gathered(project, kinds=["conditions_of_pair"]).questions
    for split in SPLITS:
        write_jsonl(project / f"questions/{split}.jsonl", (q.model_dump() for q in questions if q.split == split))
    measured = {"samples": 8, "ks": [1], "bootstrap": 10, "also": ["conditions_of_pair"]}
    besides = evaluate.questions_besides(Evaluation.model_validate(measured))
    assert besides and {q.id for q in besides} == {q.id for q in questions if q.split != "train"}
    choosing = evaluate.questions_besides(Evaluation.model_validate(measured | {"split": "validation"}))
    assert {q.id for q in choosing} == {q.id for q in questions if q.split == "validation"}
    assert evaluate.questions_besides(Evaluation.model_validate(measured | {"also": []})) == []
    with pytest.raises(UserError, match="did you mean 'conditions_of_pair'"):
        evaluate.questions_besides(Evaluation.model_validate(measured | {"also": ["condition_of_pair"]}))


def test_kinds_may_be_measured_besides() -> None:
    plain = {"samples": 8, "ks": [1], "bootstrap": 10}
    assert Evaluation.model_validate(plain).also == []
    assert Evaluation.model_validate(plain | {"also": ["conditions_of_pair"]}).also == ["conditions_of_pair"]

"""The doctrine: a wrong fact is the worst bug. What can be checked by rule is checked here."""

import re
from pathlib import Path

import cn2an
import pytest

from upaya.corpus.authored import Corpus
from upaya.errors import UserError

CORPUS = Corpus(Path(__file__).parents[1] / "corpus")
BY_KEY = {(entry.name, entry.treatise): entry for entry in CORPUS.lists}
NUMERAL = re.compile("[一二三四五六七八九十百]+")


def test_it_is_as_large_as_it_says() -> None:
    assert CORPUS.elements and len(CORPUS.elements.elements) == 18 and len(CORPUS.elements.axes) >= 16
    assert len(CORPUS.lists) >= 60
    assert {entry.treatise for entry in CORPUS.lists} <= {"俱舍論", "大毘婆沙論"}


@pytest.mark.parametrize("entry", CORPUS.lists, ids=lambda entry: entry.id)
def test_a_number_in_a_name_is_the_count(entry) -> None:
    name = re.sub("（.*）|十十倍增", "", entry.name)  # what a parenthesis says counts other things
    numbers = [cn2an.cn2an(found, "smart") for found in NUMERAL.findall(name)]
    assert not numbers or len(entry.members) in numbers


def test_where_the_treatises_differ_both_stand() -> None:
    kosa, vibhasa = BY_KEY["大煩惱地法", "俱舍論"], BY_KEY["大煩惱地法", "大毘婆沙論"]
    assert (len(kosa.members), len(vibhasa.members)) == (6, 10)


@pytest.mark.parametrize(
    ("element", "axis", "value"),
    [
        ("色界", "有見無見", ("有見",)),
        ("聲界", "有執受無執受", ("無執受",)),
        ("觸界", "大種所造", ("大種", "所造")),
        ("香界", "界繫", ("欲界繫",)),
        ("眼識界", "尋伺", ("有尋有伺",)),
        ("法界", "同分彼同分", ("同分",)),
        ("意識界", "有漏無漏", ("有漏", "無漏")),
        ("眼界", "見非見", ("是見",)),
        ("聲界", "五類", ("所長養", "等流性")),
    ],
)
def test_well_known_verdicts_of_the_kosa(element: str, axis: str, value: tuple[str, ...]) -> None:
    assert CORPUS.elements and CORPUS.elements.table[element][axis] == value


@pytest.mark.parametrize(
    ("name", "size"),
    [("五蘊", 5), ("六因", 6), ("四緣", 4), ("二十二根", 22), ("八解脫", 8), ("十遍處", 10), ("十智", 10), ("五果", 5)],
)
def test_the_lists_that_everyone_asks_for_are_there(name: str, size: int) -> None:
    found = [entry for entry in CORPUS.lists if entry.name == name]
    assert found and all(len(entry.members) == size for entry in found)


def test_the_98_latents_add_up() -> None:
    kinds = [entry for entry in CORPUS.lists if re.match("latents-(kama|rupa|arupya)-", entry.id)]
    assert sum(len(entry.members) for entry in kinds) == 98


@pytest.mark.parametrize(
    ("identity", "fascicle"),
    [
        ("four-formless-mvs", 83),
        ("four-conditions-mvs", 21),
        ("four-fruits-kosa", 23),
        ("five-feeling-faculties-kosa", 2),
        ("five-pure-abodes-kosa", 8),
    ],
)
def test_a_list_stands_in_the_fascicle_that_is_said(identity: str, fascicle: int) -> None:
    assert next(entry for entry in CORPUS.lists if entry.id == identity).fascicle == fascicle


def test_a_name_that_a_treatise_has_two_lists_of_is_no_name() -> None:
    """The 婆沙 has two 三愛 and two 三道: what is asked must have one answer."""
    assert not {("三愛", "大毘婆沙論"), ("三道", "大毘婆沙論")} & set(BY_KEY)


def test_what_is_disputed_has_no_order_and_no_value() -> None:
    assert not BY_KEY["無為解脫所分三界", "俱舍論"].ordered
    assert CORPUS.elements and "尋伺" not in CORPUS.elements.table["法界"]
    assert all("尋伺" in row for element, row in CORPUS.elements.table.items() if element != "法界")


def test_no_two_gates_contradict_each_other_by_their_names() -> None:
    """無對 beside 境界有對 would: each alternative that says 有對 says of which."""
    assert CORPUS.elements
    alternatives = {name for axis in CORPUS.elements.axes for name in axis.alternatives}
    assert not {"有對", "無對"} & alternatives


@pytest.mark.parametrize(
    ("name", "treatise", "forms"),
    [
        ("胎中五位", "俱舍論", ["羯剌藍", "頞部曇", "閉尸", "鍵南", "鉢羅奢佉"]),
        ("四念住", "俱舍論", ["身", "受念住", "心", "法"]),
        ("四顛倒", "俱舍論", ["常", "樂", "淨", "我"]),
        ("四聖種", "俱舍論", ["衣服", "飲食", "臥具", "樂斷修"]),
    ],
)
def test_the_texts_own_short_form_is_accepted(name: str, treatise: str, forms: list[str]) -> None:
    entry = BY_KEY[name, treatise]
    for member, form in zip(entry.members, forms, strict=True):
        assert form == member or form in entry.accepted(member)


def test_what_is_set_apart_is_provable() -> None:
    """Each name stands in another list of the treatise and, under no name, in this one."""
    by_id = {entry.id: entry for entry in CORPUS.lists}
    assert sum(map(bool, CORPUS.set_apart.values())) >= 140
    for identity, names in CORPUS.set_apart.items():
        entry = by_id[identity]
        for name in names:
            assert name not in entry.forms
            assert any(name in other.members for other in CORPUS.lists if other.treatise == entry.treatise)


@pytest.mark.parametrize(
    ("identity", "name", "denied"),
    [
        ("ten-envelopments-kosa", "惱", True),
        ("latents-kama-origin-kosa", "有身見", True),
        ("latents-kama-path-kosa", "戒禁取", False),  # a member
        ("latents-kama-origin-kosa", "戒禁取", True),  # beside 見取 in 十隨眠
        ("five-fetters-mvs", "愛結", False),  # 貪結 by another name
        ("eight-fasting-precepts-kosa", "欲邪行", False),  # 非梵行 includes it
        ("matter-eleven-kosa", "觸", False),  # could be read as 觸境
        ("four-great-elements-kosa", "空界", True),
        ("ten-powers-kosa", "正等覺無畏", False),  # 四無畏 are four of the powers: 初十二七力
        ("four-fearlessnesses-kosa", "根上下智力", True),
        ("five-fruits-kosa", "安立果", False),  # lies in 士用果 and 增上果
        ("eight-masteries-kosa", "內有色想觀外色解脫", False),  # the first two are as it
        ("four-births-kosa", "中有", False),  # born as 化生
        ("three-evil-conducts-kosa", "身妙行", True),
    ],
)
def test_who_would_dispute_a_no(identity: str, name: str, denied: bool) -> None:
    assert (name in CORPUS.set_apart[identity]) == denied


LIST = "- {id: a, name: 四念住, treatise: 俱舍論, members: [身念住, 受念住]%s}\n"
ELEMENTS = """
treatise: 俱舍論
elements: [眼界, 法界]
axes: [{name: g, alternatives: [善, 惡], left_out: {%s: disputed}, values: [{of: [眼界], is: [善]}]}]
"""


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("lists/a.yaml", LIST % ", shared: 慢", "shared: no member ends in '慢'"),
        ("lists/a.yaml", LIST % ", also: {心念住: [心]}", "'心念住' is no member"),
        ("lists/a.yaml", LIST % ", also: {身念住: [受念住]}", "受念住 stands twice"),
        ("apart.yaml", "- [a, b]\n", r"apart.yaml: 'b' is the id of no list"),
        ("apart.yaml", "- [a, c]\n", "a and c are of two treatises"),
        ("elements.yaml", ELEMENTS % "耳界", "left_out: '耳界' is no element"),
        ("elements.yaml", ELEMENTS % "眼界", "眼界 stands twice"),
    ],
)
def test_a_mistake_in_the_corpus_is_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/a.yaml").write_text(LIST % "")
    (tmp_path / "lists/c.yaml").write_text("- {id: c, name: 四無色, treatise: 大毘婆沙論, members: [空, 識]}\n")
    (tmp_path / "phrasings.yaml").write_text((CORPUS.folder / "phrasings.yaml").read_text())
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=message):
        Corpus(tmp_path)

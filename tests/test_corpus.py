"""The doctrine: a wrong fact is the worst bug. What can be checked by rule is checked here."""

import re
from pathlib import Path

import cn2an
import pytest

from upaya.corpus.authored import Corpus

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

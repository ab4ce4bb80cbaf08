"""What is numbered and named; whether there is such a thing; of how many things a nature consists."""

import re
from collections.abc import Iterator

import cn2an

from upaya.corpus.extracting.reading import (
    NUMERAL,
    Finding,
    clean,
    counted,
    in_an_opinion,
    leans_on_context,
    opens_an_opinion,
)

FEWEST, MOST = 3, 20  # members: of two there is little to ask, and no list is longer
LONGEST_NAME, LONGEST_MEMBER = 12, 10  # characters

_LIST = re.compile(
    rf"(?:^|(?<=[。問答謂故]))(?P<name>[^。問答]{{1,{LONGEST_NAME}}}?)。?(?:總|略|凡|復)?有"
    rf"(?P<count>{NUMERAL}{{1,3}})(?P<unit>[^。一二三四五六七八九十]{{0,3}})。(?=一)"
)
_BEFORE_NAMES = re.compile("^(?:如?契經中?說)?(?:復次|然|謂|諸|故|又|且|夫)?(?:復次|然|謂)?")
_NO_NAME = re.compile("[中者於說言]$|^[如是由依若]|^有(?!執受|漏|為|情|學|見|對|色|頂|愛|支)")
_NO_MEMBER = re.compile("[謂故此彼前餘問答說]|如是|名為|^何|乃至|等$|^是")


def enumerations(text: str) -> Iterator[Finding]:
    """「A有N種。一甲。二乙。三丙」 → the members in the text's order, as many as it says.

    Traps: fewer or more members than N; a member that is a sentence (一謗物體故), not a name; a numeral inside a member
    (五心一境性), so that the k-th ends at the k+1-th and the last at 。; names that lean on what stands before
    (此有三種, 復有三種); the same name numbered otherwise elsewhere: the file strikes both.

    Precision: corpus/extracted/README.md.
    """
    for match in _LIST.finditer(text):
        count, name = counted(match["count"]), _BEFORE_NAMES.sub("", match["name"])
        if count is None or not FEWEST <= count <= MOST or not name:
            continue
        if _NO_NAME.search(name) or leans_on_context(name) or in_an_opinion(text, match.start("name")):
            continue
        members = _members(text, match.end(), count)
        if members:
            start = match.start("name") + match["name"].rfind(name)
            yield Finding(f"{name}有{match['count']}{match['unit']}", members[0], start, members[1])


def _members(text: str, start: int, count: int) -> tuple[list[str], int] | None:
    """So many names, numbered in order, and where they end; None where it is not that."""
    names, at = [], start
    spaced: bool | None = None
    for k in range(1, count + 1):
        if not text.startswith(cn2an.an2cn(k), at):
            return None
        begin = at + len(cn2an.an2cn(k))
        stop = text.find("。", begin)
        stop = stop if stop >= 0 else len(text)
        if k == count:
            at = stop
        else:
            following = cn2an.an2cn(k + 1)
            run_on = text.find(following, begin + 1, stop)
            if spaced is None:
                spaced = text.startswith(following, stop + 1)
            at = stop + 1 if text.startswith(following, stop + 1) and (spaced or run_on < 0) else run_on
            if at < 0:
                return None
        names.append(clean(text[begin:at]).removeprefix("者").removeprefix("名").removesuffix("法者"))
    more = text.startswith(cn2an.an2cn(count + 1), at + 1) and text[at + 1 : at + 3] != "一一"
    if more or len(set(names)) < count or any(_is_no_name(name) for name in names):
        return None
    return names, at


def _is_no_name(member: str) -> bool:
    return not 0 < len(member) <= LONGEST_MEMBER or _NO_MEMBER.search(member) is not None


_MENDED = re.compile("[^頗]{0,160}答應說[有無]")
_WHETHER = re.compile(r"頗有(?P<what>[^問答]{1,40}?)耶。?答(?P<answer>有|無)(?=[。謂]|$)")


def whether_there_is(text: str) -> Iterator[Finding]:
    """「頗有X耶。答有」 → true, 「答無」 → false.

    Traps: what 頗有 is asked within stands before it (於十智中。頗有…): then the question alone is another; one that is
    quoted (如說。頗有…) is answered by another book; the treatise may mend the answer (答應說有); 有說 after 答
    is no 有; 此, 彼, 前, 餘 in it; far more are answered 有 than 無.

    Precision: corpus/extracted/README.md.
    """
    for match in _WHETHER.finditer(text):
        what = clean(match["what"])
        before = text[max(0, match.start() - 4) : match.start()].rstrip("。")
        within = "中" in before or before.endswith(("言", "說"))
        if within or _MENDED.match(text, match.end()) or leans_on_context(what) or in_an_opinion(text, match.start()):
            continue
        yield Finding(f"頗有{what}", match["answer"] == "有", match.start(), match.end())


_NATURE = re.compile(
    rf"(?:此(?={NUMERAL}))?(?P<what>[^。問答]{{2,16}}?)以何為(?:其)?自性。?答。?(?P<said>以(?P<count>{NUMERAL}+)(?:事|法|界|蘊)(?:為自性|[。]))"
)


def own_nature_count(text: str) -> Iterator[Finding]:
    """「A以何為自性。答以N事」 → the number.

    Traps: 此 and 彼 for A, but for 此三漏, which its number names; an answer that begins with whose opinion it is;
    以四蘊五蘊為自性 has two numbers and is passed over, for 為自性 or 。 must follow the first.

    Precision: corpus/extracted/README.md.
    """
    for match in _NATURE.finditer(text):
        count, what = counted(match["count"]), match["what"]
        leans = leans_on_context(what) or opens_an_opinion(match["said"])
        if count is not None and not leans and not in_an_opinion(text, match.start()):
            yield Finding(f"{what}以幾事為自性", count, match.start(), match.end())

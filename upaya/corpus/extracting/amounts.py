"""How many elements, places and aggregates hold what remains when something is taken away."""

import re
from collections.abc import Iterator

from upaya.corpus.extracting.reading import NUMERAL, Finding, clean, counted, in_an_opinion, leans_on_context

_COUNTS = rf"(?P<elements>{NUMERAL}+)界(?P<places>{NUMERAL}+)處(?P<aggregates>{NUMERAL}+)蘊攝"
_TAKEN_AWAY = re.compile(rf"除(?P<out>[^。除餘]{{1,20}}及(?P<also>[^。除餘]{{1,8}}))。?餘法{_COUNTS}")
_ALIKE = re.compile(r"(?:(?<=。)|(?<=故)|除)(?P<out>[^。除餘]{1,20}?)。?及(?P<also>[^。除餘及]{1,8})說亦爾")
_CONCLUDED = re.compile(rf"是故此法。?(?:皆|亦)?{_COUNTS.replace('蘊攝', '蘊')}")
MOST = (18, 12, 5)  # elements, places and aggregates that there are


def elements_places_aggregates(text: str) -> Iterator[Finding]:
    """「除X及Y。餘法N界N處N蘊攝」 → the three numbers; 「除Z及Y說亦爾」 → the same, for each dharma named.

    Traps: 十六界 read as 六界 (the numeral begins right after 餘法); 「十一少分」 is ten and a part and no whole
    number (攝 must follow at once); 「餘法」 of the explanation (餘法謂…) has no numbers; 亦爾 refers to the sentence
    before and only where both take away the same second term; where the explanation concludes with other numbers
    (是故此法…) than it began with, one of the two is a slip; of 「除一切法」 nothing remains and it is not asked.

    Precision: corpus/extracted/README.md.
    """
    found = sorted([*_TAKEN_AWAY.finditer(text), *_ALIKE.finditer(text)], key=lambda match: match.start())
    last: tuple[str, list[str]] | None = None  # what was taken away besides, and the numbers
    for match in found:
        if match.re is _TAKEN_AWAY:
            numbers = [counted(match[name]) for name in ("elements", "places", "aggregates")]
            possible = all(n is not None and 0 < n <= most for n, most in zip(numbers, MOST, strict=True))
            if not possible or not _concluded_alike(text, match):
                last = None
                continue
            last = match["also"], [match[name] for name in ("elements", "places", "aggregates")]
            names = [match["out"].removesuffix("及" + match["also"])]
        elif last and last[0] == match["also"]:
            names = [part for part in re.split("(?<=法)", clean(match["out"])) if part]
        else:
            continue
        for name in names:
            question = f"除{clean(name)}及{match['also']}，餘法幾界幾處幾蘊攝"
            if not leans_on_context(name + match["also"]) and not in_an_opinion(text, match.start()):
                yield Finding(question, list(last[1]), match.start(), match.end())


def _concluded_alike(text: str, match: re.Match[str]) -> bool:
    """Whether the explanation that follows concludes with the same numbers, or with none."""
    end = text.find("。除", match.end())
    concluded = _CONCLUDED.search(text, match.end(), end if end >= 0 else len(text))
    names = ("elements", "places", "aggregates")
    return not concluded or all(counted(concluded[name]) == counted(match[name]) for name in names)

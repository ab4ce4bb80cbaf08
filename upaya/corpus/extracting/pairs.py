"""四緣 of a pair: which of the four conditions one dharma is to another."""

import re
from collections.abc import Iterator

from upaya.corpus.extracting.reading import Finding, clean, in_an_opinion, leans_on_context

CONDITIONS = ("因", "等無間", "所緣", "增上")

_ASKED = re.compile(r"為幾緣。?答。?")
_TAKEN = re.compile(
    r"(?:為?[一二三四]緣?。?謂?)?(?P<conditions>(?:(?:因|等無間|所緣|增上)(?![者義法相不]|緣緣|(?<=所緣)增上義)[。、]?)+)"
)
_PAIR = re.compile(r"(?P<first>[^。與]{1,20})。?與(?P<second>[^。與]{1,20})。?$")
_BEFORE = re.compile(r".*(?:如前說|果故|因故|緣故|義如前|說。)")  # of the clause before, run on without a mark


def conditions_of_pair(text: str) -> Iterator[Finding]:
    """「A與B為幾緣。答因、增上…」 → the set of the conditions named.

    Traps: the answer 無 is no set and is left out; 一增上 and 因增上 run together; the explanations that follow
    (因者…, 增上義如前說) repeat the names; a clause before that has no mark at its end (如前說現在所造色與…), or
    a mark inside a term, so that one character is left of it (現在所造。色與…); what 彼 and 即彼 stand for is outside.

    Precision: corpus/extracted/README.md.
    """
    for asked in _ASKED.finditer(text):
        taken = _TAKEN.match(text, asked.end())
        pair = _PAIR.search(text, max(0, asked.start() - 44), asked.start())
        if not taken or not pair:
            continue
        first = pair["first"].rpartition("問")[2].rpartition("答")[2]
        first = _BEFORE.sub("", first)
        question = f"{first}與{pair['second']}"
        start = pair.start() + pair["first"].rfind(first)
        if len(first) < 2 or len(pair["second"]) < 2 or leans_on_context(question) or in_an_opinion(text, start):
            continue
        said = clean(taken["conditions"])
        answer: list[str] = [name for name in CONDITIONS if name in _named(said)]
        yield Finding(f"{question}為幾緣", answer, start, taken.end())


def _named(said: str) -> set[str]:
    return set(re.findall("|".join(CONDITIONS), said))

"""The six causes under the gates (諸門), as a table: which values each of them has at each gate."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from upaya.corpus.extracting.reading import NUMERAL, clean, counted

CAUSES = ("相應因", "俱有因", "同類因", "遍行因", "異熟因", "能作因")
_SHORT = {cause.removesuffix("因"): cause for cause in CAUSES}

_GATE = re.compile(r"問此六因(?P<asked>幾[^問答]{2,40}?)。答(?P<answer>[^問]{4,140}?)(?=問|。如|。?$)")
_ALIKE = re.compile(r"如(?P<first>[^問答]{2,16}?)(?P<others>(?<=[^。]{2}).[^問答]{3,80}?)亦爾")
_CLAUSE = re.compile(
    rf"餘通(?P<rest>[^。]{{1,14}})(?:。|$)"
    rf"|(?P<unnamed>{NUMERAL})(?P<only>[唯通][^謂。一二三四五]{{1,8}})(?=[一二三四五][唯通])"
    rf"|(?P<count>{NUMERAL})(?P<how>唯|通|非|有)(?P<value>[^謂]{{1,14}}?)(?P<besides>除色蘊)?"
    r"謂(?P<causes>[^。餘一二三四五]+?)因(?:。|$|(?=[餘一二三四五]))"
)
_PAIR = re.compile(r"有(?P<a>.{1,3})無(?P=a)|是(?P<b>.{1,3})非(?P=b)|(?P<c>[^。有是黑]{1,3})[非不無](?P=c)|黑白")
_ALL = re.compile(f"{NUMERAL}種|三界繫|三世")
_BEYOND = {"不繫": "不繫", "離世": "離世"}  # a value that the answer adds to those asked for


@dataclass(frozen=True)
class Gate:
    """A gate, and what each cause has at it.

    Attributes:
        name: its alternatives, joined.
        values: cause → the alternatives that apply, in their order.
        start, end: of the span in the text that says it.
    """

    name: str
    alternatives: tuple[str, ...]
    values: dict[str, tuple[str, ...]]
    start: int
    end: int


@dataclass(frozen=True)
class _Clause:
    """Of the answer.

    Attributes:
        words: the value as it says it.
        causes: those named; none where it is all that no other clause names.
        count: as stated, where it names none; None for 餘.
    """

    words: str
    causes: tuple[str, ...]
    count: int | None = None


class Refused(ValueError):
    """What is no gate, and why."""


def gates_of_causes(text: str) -> Iterator[Gate | str]:
    """「問此六因幾A幾B。答二唯A謂甲乙因。餘通二種」 → a gate; 「如A非A。C非C亦爾」 → a gate for each pair.

    Of a sentence that does not add up it yields the words, and why not.

    The text offers the check itself: the number that a clause states is the number of causes that it names, and no
    cause is named twice or not at all. Where the values are no alternatives of the question (幾何處攝), each clause is
    one alternative in its own words (與 for 及, which joins alternatives), and every cause has exactly one.

    Traps: 餘 is whatever the other clauses do not name, and so is a number that names none
    (五唯有為一通…謂能作因); 通三種 and 通三世 are all alternatives; 亦離世 and 及不繫 add one that the question
    has not; a clause may lack its mark (二唯非色。謂…因餘通…); a pair is alike in its order (色非色 as 有見無見).

    Precision: corpus/extracted/README.md.
    """
    for match in _GATE.finditer(text):
        try:
            gate = _gate(match)
        except Refused as why:
            yield f"{clean(match['asked'])}: {why}"
            continue
        yield gate
        after = _ALIKE.match(text, match.end() + text.startswith("。", match.end()))
        if after:
            yield from _alike(gate, after)


def _gate(match: re.Match[str]) -> Gate:
    asked = tuple(part.removeprefix("是") for part in clean(match["asked"]).split("幾")[1:])
    clauses = _clauses(match["answer"])
    named = [cause for clause in clauses for cause in clause.causes]
    if len(set(named)) < len(named):
        raise Refused("a cause is named twice")
    rest = tuple(cause for cause in CAUSES if cause not in named)
    for clause in clauses:
        if not clause.causes and clause.count not in (None, len(rest)):
            raise Refused(f"{clause.count} is stated and {len(rest)} are left, {'、'.join(rest)}")
    spread = [_Clause(clause.words, clause.causes or rest) for clause in clauses]
    if {cause for clause in spread for cause in clause.causes} != set(CAUSES):
        raise Refused("a cause is not named")
    alternatives, values = _by_alternatives(asked, spread) or _by_clauses(spread)
    name = "／".join(alternatives)
    return Gate(name, alternatives, {cause: values[cause] for cause in CAUSES}, match.start(), match.end())


def _clauses(answer: str) -> list[_Clause]:
    clauses, at = [], 0
    answer = answer.replace("。謂", "謂").rstrip("。")
    while at < len(answer):
        match = _CLAUSE.match(answer, at)
        if not match:
            raise Refused(f"…{answer[at : at + 12]}… is no clause")
        at = match.end()
        if match["rest"]:
            clauses.append(_Clause("通" + match["rest"], ()))
            continue
        if match["unnamed"]:
            clauses.append(_Clause(match["only"], (), counted(match["unnamed"])))
            continue
        causes = _causes(match["causes"])
        if counted(match["count"]) != len(causes):
            raise Refused(f"{match['count']} is stated and {len(causes)} are named, {'、'.join(causes)}")
        clauses.append(_Clause(match["how"] + match["value"] + (match["besides"] or ""), causes))
    return clauses


def _causes(named: str) -> tuple[str, ...]:
    parts = re.findall("|".join(_SHORT), named)
    if "".join(parts) != named.replace("因", "") or not parts:
        raise Refused(f"{named!r} names no causes")
    return tuple(_SHORT[part] for part in parts)


def _by_alternatives(
    asked: Sequence[str], clauses: Sequence[_Clause]
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]] | None:
    """The table where every value is made of the question's alternatives; None where one is not."""
    added = [value for words, value in _BEYOND.items() if any(words in clause.words for clause in clauses)]
    alternatives = (*asked, *(value for value in added if value not in asked))
    values = {}
    for clause in clauses:
        value = _value(clause.words, asked, alternatives)
        if not value or len(asked) < 2:
            return None
        values.update(dict.fromkeys(clause.causes, value))
    return alternatives, values


def _value(words: str, asked: Sequence[str], alternatives: Sequence[str]) -> tuple[str, ...]:
    """The alternatives that a clause says; none where it says something else besides."""
    rest = words if words in alternatives else words.lstrip("唯通")
    held: set[str] = set()
    while rest:
        everything = _ALL.match(rest)
        one = max((name for name in alternatives if rest.startswith(name)), key=len, default="")
        if everything:
            held.update(asked)
            rest = rest[everything.end() :]
        elif one:
            held.add(one)
            rest = rest[len(one) :]
        elif rest[0] in "及亦":
            rest = rest[1:]
        else:
            return ()
    return tuple(name for name in alternatives if name in held)


def _by_clauses(clauses: Sequence[_Clause]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    if len(clauses) < 2 or any(_ALL.search(clause.words) for clause in clauses):
        raise Refused("its values are not the question's alternatives")
    words = [clause.words.replace("及", "與") for clause in clauses]  # 及 joins alternatives in an answer
    values: dict[str, tuple[str, ...]] = {}
    for said, clause in zip(words, clauses, strict=True):
        values.update(dict.fromkeys(clause.causes, (said,)))
    return tuple(words), values


def _alike(gate: Gate, match: re.Match[str]) -> Iterator[Gate | str]:
    said = match["first"] + match["others"]
    own = "".join(gate.alternatives)
    if not said.startswith(own) or len(gate.alternatives) != 2:
        yield f"如{said}亦爾: not alike to {own}"
        return
    pairs, at = [], len(own)
    while at < len(said):
        if said[at] == "。":
            at += 1
            continue
        pair = _PAIR.match(said, at)
        if not pair:
            yield f"如{said}亦爾: {said[at:]!r} is no pair"
            return
        half = len(pair.group()) // 2  # the denied one is as long, or longer by the word that denies it
        pairs.append((pair.group()[:half].removeprefix("是"), pair.group()[half:]))
        at = pair.end()
    for first, second in pairs:
        renamed = dict(zip(gate.alternatives, (first, second), strict=True))
        values = {cause: tuple(renamed[name] for name in held) for cause, held in gate.values.items()}
        yield Gate(f"{first}／{second}", (first, second), values, match.start(), match.end())

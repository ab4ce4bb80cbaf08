"""The extension of two terms: whether all that is the one is the other, and the other way round."""

import re
from collections.abc import Iterator

from upaya.corpus.extracting.reading import Finding, clean, in_an_opinion, leans_on_context, opens_an_opinion

# 諸A彼B: what stands between the two terms.
_BETWEEN = r"(?:彼亦是|彼亦|彼色一切|彼一切|彼皆|彼法|彼|亦是|亦|皆)"
_TERMS = re.compile(rf"(?P<head>[諸若])(?P<first>[^。]{{1,30}}?)。?(?P<between>{_BETWEEN})(?P<second>[^。]{{1,30}})")
_ASKED = re.compile(r"耶。?答。?")
_NAMED = re.compile(r"應作(四句|順前句|順後句)|(如是|不爾)(?=[。設問]|$)")
_CONVERSE = re.compile(r"有[^。]{1,30}。?(?:而?非|而不|彼非|非是)[^。]{1,20}")
_ASKED_BACK = re.compile(r"。?設[^。]{1,30}。?[^。]{0,20}耶。?答(?P<answer>如是)?")
LONGEST = 90  # characters of a question
NEAR = 60  # characters after the answer's first clause in which the converse is denied


def extension_of_terms(text: str) -> Iterator[Finding]:
    """「諸A彼亦B耶。答應作四句」 → 四句, 順前句, 順後句, 如是 or 不爾.

    順前句 and 順後句 are also read where they are written out: 「答諸A彼亦B。有B非A」, 「答諸B彼亦A。有A非B」.

    Where the converse is asked with it (諸A彼B耶。設B彼A耶。答…) the question is the first of the two.

    Traps: questions by 設 alone have half their subject in the question before; 如是 is the whole answer only where the
    question asked back (設…) is answered alike or not asked; 「答諸A彼亦B」 without a converse is no 順前句; 頗有…耶
    and questions without two terms are answered by the same words; a second 若 or 諸 in the first term begins it anew;
    此, 前, 餘 stand for what is outside the sentence.

    Precision: corpus/extracted/README.md.
    """
    for asked in _ASKED.finditer(text):
        start = _start(text, asked.start())
        if start is None:
            continue
        question, asked_both = _first(text[start : asked.start()])
        terms = _TERMS.fullmatch(question)
        after = text[asked.end() : asked.end() + 2 * LONGEST]
        if not terms or opens_an_opinion(after) or _leans(terms):
            continue
        if in_an_opinion(text, start):
            continue
        answer = _named(after) or _written_out(terms, after)
        if answer and not (asked_both and answer[0] == "不爾"):
            yield Finding(question, answer[0], start, asked.end() + answer[1])


def _leans(terms: re.Match[str]) -> bool:
    first = _bare(terms["first"])
    return leans_on_context(first) or leans_on_context(_bare(terms["second"])) or re.search("[若諸]", first) is not None


def _first(asked: str) -> tuple[str, bool]:
    """The question that is asked first, and whether its converse is asked with it: 諸A彼B耶。設B彼A."""
    question, converse, _ = clean(asked).partition("耶設")
    return question, bool(converse)


def _start(text: str, end: int) -> int | None:
    """Where the question that ends there begins: at the last 諸 or 若 from which it has two terms."""
    first = max(0, end - LONGEST, text.rfind("問", 0, end) + 1, text.rfind("答", 0, end) + 1)
    for at in range(end - 1, first - 1, -1):
        begins = at in (0, first) or text[at - 1] in "。問" or text.startswith("若成就", at)
        if text[at] in "諸若" and begins and _TERMS.fullmatch(_first(text[at:end])[0]):
            return at
    return None


def _named(after: str) -> tuple[str, int] | None:
    """The answer where it has a name, and how far it goes."""
    named = _NAMED.match(after)
    if not named:
        return None
    back = _ASKED_BACK.match(after, named.end())
    if named[2] == "如是" and back and not back["answer"]:
        return None
    return named[1] or named[2], named.end()


def _written_out(terms: re.Match[str], after: str) -> tuple[str, int] | None:
    """順前句 or 順後句 where the answer repeats the question, or turns it round, and then denies the converse."""
    clause = re.match("[^。]*", after.replace("。彼", "　彼", 1))
    said = _TERMS.fullmatch(clean(clause[0])) if clause else None
    if not said or not clause:
        return None
    rest = after[clause.end() :].partition("問")[0][:NEAR]
    converse = _CONVERSE.search(rest)
    if not converse:
        return None
    end = clause.end()
    if (_bare(said["first"]), _bare(said["second"])) == (_bare(terms["first"]), _bare(terms["second"])):
        return "順前句", end
    if (_bare(said["second"]), _bare(said["first"])) == (_bare(terms["first"]), _bare(terms["second"])):
        return "順後句", end
    return None


def _bare(term: str) -> str:
    """A term without the general word before it: 法是相應因 and 相應因 are one."""
    return re.sub("^(?:有?法|事|色)?是?", "", term)

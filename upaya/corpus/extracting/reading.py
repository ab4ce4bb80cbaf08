"""What all extractors share: findings, numerals as the treatises write them, and whose opinion a sentence is."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from upaya.corpus.answers import Answer
from upaya.corpus.numerals import number

NUMERAL = "[一二兩三四五六七八九十百千]"

# Who says that it is not the treatise. What settles a dispute: from there on it speaks for itself again.
_OPINION = re.compile(
    "有說|或說|方師說|諸師說|有餘|餘師|有作是說|有作是言|作如是說|作如是言|或有|復有說|有言|有別誦|尊者|大德|譬喻|分別論者|外道|有執|諸說"
)
_TURNS = ("問", "答", "評曰", "如是說者", "應作是說", "作斯論")
_CONTEXT = re.compile("[此彼餘前設]|如是|若爾|是中|爾時|所說|亦爾|云何|何等|(?:^|。)[是即則復亦]")


@dataclass(frozen=True)
class Finding:
    """A question that a text asks and answers.

    Attributes:
        question: in the text's words, without what asks (耶, 問).
        start, end: of the span in the text that has both, the question and no more of the answer than is taken.
    """

    question: str
    answer: Answer
    start: int
    end: int


Extractor = Callable[[str], Iterator[Finding]]


def counted(numeral: str) -> int | None:
    """十一 → 11, 兩 → 2, 百八 → 108; None for what is no whole number."""
    plain = numeral.replace("兩", "二")
    if plain[:1] in ("百", "千"):
        plain = "一" + plain
    bare_end = re.fullmatch(f"(.*[百千])({NUMERAL[1:-1].join('[]')})", plain)
    if bare_end and bare_end[2] not in "十百千":
        plain = f"{bare_end[1]}零{bare_end[2]}"
    value = number(plain)
    return value if isinstance(value, int) else None


def clean(text: str) -> str:
    """Words without the marks of breath in and around them."""
    return text.replace("。", "").replace("　", "")


def leans_on_context(question: str) -> bool:
    """Whether it has a word that only what stands before it can fill (此, 彼, 餘, 前, 設, …)."""
    return _CONTEXT.search(question) is not None


def in_an_opinion(text: str, at: int) -> bool:
    """Whether what begins at `at` stands inside somebody's opinion: one was introduced since the last question, answer
    or verdict (評曰, 如是說者, 應作是說), or since the reasons for the section ended (故作斯論, 而作斯論)."""
    # From behind: a text may be one paragraph, and every question in it would look through all that stands before.
    turned = max(begins + len(turn) if (begins := text.rfind(turn, 0, at)) >= 0 else 0 for turn in _TURNS)
    return _OPINION.search(text, turned, at) is not None


def opens_an_opinion(answer: str) -> bool:
    """Whether an answer begins by saying whose it is."""
    return _OPINION.match(answer.lstrip("。")) is not None


def sentence_start(text: str, at: int) -> int:
    """Where the clause that ends before `at` begins: after the last 。, 問 or 答."""
    return max(text.rfind(mark, 0, at) for mark in "。問答") + 1

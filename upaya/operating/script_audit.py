"""`upaya audit script`: what conversion to Simplified does to a whole imported text, for whoever keeps its dictionary.

OpenCC takes the longest known phrase first. A character that it changes in one word and not in another is right in both
or wrong in one, and only a reader knows: each is shown with its places.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from upaya.corpus.script import Converter
from upaya.corpus.texts.passages import Passage, read_passages
from upaya.files import read_json
from upaya.operating.importing import text_folder
from upaya.paths import OPENCC
from upaya.terminal import console

AROUND = 4  # characters shown on either side of a place

Kind = Literal["against the dictionary", "in more than one way", "ambiguous on the way back", "other length"]
EXPLAINED: dict[Kind, str] = {
    "against the dictionary": "a term of the dictionary, or a character as it has it, that came out otherwise here",
    "in more than one way": "one character, converted by the words around it: the rarer ways are where errors are",
    "ambiguous on the way back": "Traditional characters that are one in Simplified",
    "other length": "passages whose conversion is longer or shorter: offsets do not hold in them",
}


@dataclass
class ScriptFinding:
    """A change that wants a look.

    Attributes:
        before, after: the character or term, and what it became.
        count: how often in the text. of: how often `before` stands in it.
        places: some of those places, (reference, the words around it).
    """

    kind: Kind
    before: str
    after: str
    count: int = 0
    of: int = 0
    places: list[tuple[str, str]] = field(default_factory=list)


def audit_script(name_or_folder: str, most_places: int) -> None:
    """Print every finding of an import, the most suspicious first. Raises UserError where there is no such import."""
    passages = read_passages(text_folder(name_or_folder))
    converter = Converter()
    found = list(script_findings(passages, converter, dictionary(OPENCC), most_places))
    for kind, why in EXPLAINED.items():
        rows = [finding for finding in found if finding.kind == kind]
        if not rows:
            continue
        table = Table("", "to", "times", "of", "places", title=f"{kind}: {why}", title_justify="left")
        for finding in rows:
            places = "\n".join(f"{place} {around}" for place, around in finding.places)
            table.add_row(finding.before, finding.after, str(finding.count), str(finding.of), places)
        console.print(table)
    characters = sum(len(passage.text) for passage in passages)
    console.print(
        f"{len(passages)} passages, {characters} characters: {len(found)} findings. What is wrong becomes an entry of "
        f'the dictionary in {OPENCC}, the longest word that tells it apart: `"乾闥婆": "乾闼婆"`',
        markup=False,
    )


def dictionary(config: Path) -> dict[str, str]:
    """The entries that stand in the configuration itself, ahead of OpenCC's own files. Raises UserError."""
    entries: dict[str, str] = {}
    for node in _nodes(read_json(config)):
        if node.get("type") == "inline":
            entries |= node.get("entries", {})
    return entries


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _nodes(part)


def script_findings(
    passages: Iterable[Passage], converter: Converter, terms: dict[str, str], most_places: int
) -> Iterator[ScriptFinding]:
    """What conversion does to the text that is ambiguous, or against `terms` (Traditional → Simplified); by kind, the
    most frequent first, but of several ways the rarest first."""
    survey = _Survey(converter, terms, most_places)
    for passage in passages:
        survey.take(passage)
    yield from survey.findings()


class _Survey:
    """Counts over a whole text."""

    def __init__(self, converter: Converter, terms: dict[str, str], most_places: int) -> None:
        self.converter, self.terms, self.most_places = converter, terms, most_places
        self.pattern = re.compile("|".join(sorted(map(re.escape, terms), key=len, reverse=True)) or r"(?!)")
        # A character that a term keeps or changes otherwise than it would be alone.
        self.as_in_terms: dict[str, set[str]] = defaultdict(set)
        for before, after in terms.items():
            if len(before) == len(after):
                for old, new in zip(before, after, strict=True):
                    if converter.simplify(old) != new:
                        self.as_in_terms[old].add(new)
        self.of: Counter[str] = Counter()
        self.of_terms: Counter[str] = Counter()
        self.ways: Counter[tuple[str, str]] = Counter()
        self.places: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self.broken_terms: dict[tuple[str, str], ScriptFinding] = {}
        self.lengths = ScriptFinding("other length", "", "")

    def take(self, passage: Passage) -> None:
        text = passage.text
        simplified = self.converter.simplify(text)
        if len(simplified) != len(text):
            self._noted(self.lengths, passage, 0)
            return
        self.of.update(text)
        pairs = list(zip(text, simplified, strict=True))
        self.ways.update(pairs)
        for offset, pair in enumerate(pairs):
            if len(self.places[pair]) < self.most_places and (pair[0] != pair[1] or pair[0] in self.as_in_terms):
                self.places[pair].append(self._place(passage, offset))
        for match in self.pattern.finditer(text):
            term, became = match[0], simplified[match.start() : match.end()]
            self.of_terms[term] += 1
            if became != self.terms[term]:
                finding = ScriptFinding("against the dictionary", term, became)
                self._noted(self.broken_terms.setdefault((term, became), finding), passage, match.start())

    def _noted(self, finding: ScriptFinding, passage: Passage, offset: int) -> None:
        finding.count += 1
        if len(finding.places) < self.most_places:
            finding.places.append(self._place(passage, offset))

    def _place(self, passage: Passage, offset: int) -> tuple[str, str]:
        return passage.at(offset), passage.text[max(offset - AROUND, 0) : offset + AROUND + 1]

    def findings(self) -> Iterator[ScriptFinding]:
        ways: dict[str, list[str]] = defaultdict(list)
        for before, after in self.ways:
            ways[before].append(after)
        for finding in self.broken_terms.values():
            yield replace(finding, of=self.of_terms[finding.before])
        yield from self._characters("against the dictionary", self._unlike_terms(ways))
        several = [(old, new) for old, news in ways.items() if len(news) > 1 for new in news]
        yield from self._characters("in more than one way", several, rarest_first=True)
        origins = self.converter.origins
        merged = [(old, new) for old, new in self.ways if old != new and len(origins.get(new, ())) > 1]
        yield from self._characters("ambiguous on the way back", merged)
        if self.lengths.count:
            yield self.lengths

    def _unlike_terms(self, ways: dict[str, list[str]]) -> list[tuple[str, str]]:
        return [
            (old, new) for old, allowed in self.as_in_terms.items() for new in ways.get(old, []) if new not in allowed
        ]  # fmt: skip

    def _characters(
        self, kind: Kind, pairs: Sequence[tuple[str, str]], rarest_first: bool = False
    ) -> Iterator[ScriptFinding]:
        for pair in sorted(pairs, key=lambda pair: (self.ways[pair] if rarest_first else -self.ways[pair], pair)):
            yield ScriptFinding(kind, *pair, self.ways[pair], self.of[pair[0]], self.places[pair])

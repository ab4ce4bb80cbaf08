"""Extracted questions as a source: those that a person kept, each with the place that it comes from."""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from upaya.corpus.authored import Elements, Phrasing
from upaya.corpus.extracting.files import Extracted, ExtractedFile, file_of, read_extracted, read_table
from upaya.corpus.questions import SPLITS, Split
from upaya.corpus.sources.corpus import (
    Draft,
    gate_values,
    source_text,
    split_by_count,
    stated_facts,
    worded,
)
from upaya.corpus.sources.entry import Entry
from upaya.corpus.splitting import shared_out
from upaya.declared.questions import ExtractedSource


class ExtractedQuestions:
    """A `Source`. Args: seed: of all draws. Raises UserError where a file is missing or not as it should be."""

    def __init__(self, name: str, declared: ExtractedSource, data: Path, seed: int) -> None:
        self.name, self.declared, self.seed = name, declared, f"{seed}/{name}"
        self.files = {kind: read_extracted(data, declared.text, kind) for kind in declared.kinds}
        self.tables = {kind: read_table(data, declared.text, kind) for kind in declared.values}
        self.asked: dict[str, Elements] = {kind: table.asked() for kind, table in self.tables.items()}
        self._data = data

    def entries(self) -> Iterator[Entry]:
        """Kept questions, split by the question, and those on the tables.

        Raises UserError for more than there can be.
        """
        drafts: dict[Split, list[Draft]] = {split: [] for split in SPLITS}
        for kind, by_gates in self.declared.values.items():
            for n, counts in by_gates.items():
                where = f"key 'sources.{self.name}.values.{kind}.{n}'"
                stream = gate_values(self.asked[kind], kind, n, random.Random(f"{self.seed}/{kind}/{n}"), where)
                split_by_count(drafts, stream, counts, n, where)
        for kind, file in self.files.items():
            by_key: dict[str, list[Draft]] = defaultdict(list)
            for kept in file.kept:
                by_key[kept.question].append(_draft(file, kept))
            rng = random.Random(f"{self.seed}/{kind}/split")
            for split, keys in shared_out(sorted(by_key), self.declared.shares, rng):
                drafts[split] += [draft for key in keys for draft in by_key[key]]
        for entry in worded(drafts, self._phrasings, self.declared.held_out_phrasings, self.seed):
            path = file_of(self._data, self.declared.text, entry.kind)
            source = f"{entry.source}{self._places(entry)}"
            yield replace(entry, id=f"{self.name}-{entry.id}", place=f"{path}: {entry.key}", source=source)

    def _places(self, entry: Entry) -> str:
        """Where the gates stand that a question on a table asks for; "" of any other, which says it already."""
        if entry.kind not in self.tables:
            return ""
        reviewed = self.tables[entry.kind].reviewed
        return "，" + "、".join(dict.fromkeys(reviewed[gate].place for gate in entry.skills))

    def _phrasings(self, kind: str) -> list[Phrasing]:
        return list(self.files[kind].wordings if kind in self.files else self.tables[kind].phrasings)

    def text(self) -> Iterator[str]:
        """The declared number of plain lines on the tables."""
        rng = random.Random(f"{self.seed}/statements")
        tables = list(self.asked.values())
        return (stated_facts(rng.choice(tables), rng) for _ in range(self.declared.statements))

    def unread(self) -> Iterator[str]:
        return iter(())


def _draft(file: ExtractedFile, entry: Extracted) -> Draft:
    fascicle = source_text("", [entry.fascicle])
    return Draft(
        kind=file.kind,
        key=f"{file.kind}/{entry.question}",
        parts={"treatise": file.treatise, "fascicle": fascicle, "question": entry.question},
        answer=entry.answer,
        answer_type=file.answer_type,
        reasoning="",
        source=f"{file.treatise}{fascicle}，{entry.place}",
    )

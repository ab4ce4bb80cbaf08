"""What an import could not take as it stands: counted by kind, named by file and line, while the rest goes in."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

FaultKind = Literal[
    "broken file", "fascicle twice", "missing gaiji", "no fascicle number", "no passage", "no reference",
    "not UTF-8", "reference runs backwards", "text below the end", "unknown markup", "unreadable file",
]  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """Attributes: line: of the file, from 1. what: the words to find it by, and what was done about it."""

    kind: FaultKind
    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind}: {self.what}"


@dataclass
class Faults:
    """Those of one import, in the order they were met in."""

    all: list[Fault] = field(default_factory=list)

    def add(self, kind: FaultKind, file: str, line: int, what: str) -> None:
        self.all.append(Fault(kind, file, line, what))

    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(fault.kind for fault in self.all).items()))

    def first_of_each(self) -> list[Fault]:
        firsts: dict[str, Fault] = {}
        for fault in self.all:
            firsts.setdefault(fault.kind, fault)
        return [firsts[kind] for kind in sorted(firsts)]

"""An imported text as a source: no questions, but lines to pre-train on."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from upaya.corpus.sources.entry import Entry
from upaya.corpus.texts.passages import read_passages
from upaya.declared.questions import TextSource
from upaya.errors import UserError

_AFTER_A_STOP = re.compile(r"(?<=[。！？；，、：.!?;,　 ])")


class ImportedText:
    """A `Source`. Attributes: lines: all that the import gives, in the text's order."""

    def __init__(self, name: str, declared: TextSource, data: Path, seed: int) -> None:
        self.name, self.declared, self.seed = name, declared, seed
        passages = read_passages(data / declared.text)
        self.lines = [line for passage in passages for line in cut(passage.text, declared.length)]

    def entries(self) -> Iterator[Entry]:
        return iter(())

    def text(self) -> Iterator[str]:
        """The declared lines. Of a share, which is of all sources' lines together: all of the import's."""
        return self.some(self.declared.lines or len(self.lines))

    def some(self, count: int) -> Iterator[str]:
        """So many lines, drawn by the seed, in the text's order. Raises UserError where there are fewer."""
        if count > len(self.lines):
            raise UserError(
                f"{self.name}: {count} lines are declared of {self.declared.text}, which has {len(self.lines)} of at "
                f"most {self.declared.length} characters: fewer `lines`, a smaller `share`, or shorter ones (`length`)"
            )
        drawn = random.Random(f"{self.seed}/{self.name}/lines").sample(range(len(self.lines)), count)
        return (self.lines[index] for index in sorted(drawn))

    def unread(self) -> Iterator[str]:
        return iter(())


def cut(text: str, length: int) -> Iterator[str]:
    """A text in lines of at most `length` characters, each ending at a stop where there is one; nothing is lost but
    white space at their ends."""
    line = ""
    for part in _AFTER_A_STOP.split(text):
        if len(line) + len(part) > length:
            yield from filter(None, [line.strip()])
            line = ""
        while len(part) > length:
            yield part[:length]
            part = part[length:]
        line += part
    yield from filter(None, [line.strip()])

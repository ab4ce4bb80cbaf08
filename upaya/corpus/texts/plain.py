"""A folder of plain text: an empty line ends a paragraph, a file is a fascicle, file and line are the reference."""

from pathlib import Path

from upaya.corpus.texts.assembling import (
    BROKEN,
    PRIVATE,
    Block,
    Fascicle,
    Imported,
    files_of,
    passages_of,
    stated_licence,
    text_of,
    uncollected,
    without_space,
)
from upaya.corpus.texts.faults import Faults
from upaya.corpus.texts.passages import MISSING


@uncollected
def read_plain(what: Path) -> Imported:
    """The .txt files of a folder, in the order of their names, or one. Raises UserError where there is none."""
    faults = Faults()
    folder, files = files_of(what, "*.txt", faults)
    work = what.resolve().stem if what.is_file() else what.resolve().name
    fascicles = [
        Fascicle(work, number, name, 1, _blocks(name, text_of(path, name, faults), faults))
        for number, (name, path) in enumerate(files.items(), 1)
    ]
    return Imported(
        "text", {work: work}, "plain text", stated_licence(folder), files, passages_of(fascicles, faults), faults
    )


def _blocks(file: str, text: str, faults: Faults) -> list[Block]:
    blocks = [Block()]
    for number, row in enumerate(text.split("\n"), 1):
        said = "" if BROKEN in row else without_space(row)
        if not said:
            blocks.append(Block())
            continue
        for character in PRIVATE.findall(said):
            faults.add("missing gaiji", file, number, f"U+{ord(character):04X}, {MISSING} in its place")
        blocks[-1].add(PRIVATE.sub(MISSING, said), [f"{file}:{number}"], number)
    return blocks

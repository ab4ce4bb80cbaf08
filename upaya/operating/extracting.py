"""`upaya extract`: questions that an imported text itself asks and answers, in files that a person reviews."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upaya.corpus.answers import render
from upaya.corpus.authored import Phrasing
from upaya.corpus.extracting.causes import CAUSES, Gate, gates_of_causes
from upaya.corpus.extracting.files import (
    Extracted,
    ExtractedFile,
    GateTable,
    Review,
    by_question,
    compared,
    file_of,
)
from upaya.corpus.extracting.kinds import CAUSES_VALUES, CAUSES_WORDINGS, KINDS, Kind
from upaya.corpus.extracting.patterns import declared_kinds
from upaya.corpus.texts.passages import Passage, read_manifest, read_passages
from upaya.declared.extracting import ExtractingParams
from upaya.declared.validation import load_yaml, validated
from upaya.errors import UserError
from upaya.files import is_there, write_text
from upaya.operating.changing import in_one_line, new
from upaya.operating.importing import text_folder, texts_folder
from upaya.paths import EXTRACTING
from upaya.terminal import console

GONE = "its passage no longer stands in the import"


@dataclass
class Made:
    """A file before it is written. Attributes: said: what the user should know of it, in words."""

    path: Path
    content: ExtractedFile | GateTable
    said: list[str] = field(default_factory=list)


def extract(name: str, treatise: str = "") -> None:
    """Write corpus/extracted/NAME-KIND.yaml for every kind that the text has questions of, all or none of them.

    What a person said in files that are there stays: strikes, reasons, verdicts, wordings, mended answers.

    Args:
        name: an import's, or its folder.
        treatise: as questions name it; else as the files that are there do, or the import's own title.

    Raises:
        UserError: nothing is found, or a file that is there is not as it should be.
    """
    folder, corpus = text_folder(name), texts_folder().parent
    text, title = folder.name, " ".join(read_manifest(folder).works.values())
    params = load_yaml(EXTRACTING, ExtractingParams) if is_there(EXTRACTING) else ExtractingParams()
    passages = read_passages(folder)
    kinds = [*KINDS, *declared_kinds(params, str(EXTRACTING))]
    made = [_made(corpus, text, treatise, title, kind, passages) for kind in kinds]
    files = [file for file in [*made, _table(corpus, text, treatise, title, passages)] if file]
    if not files:
        raise UserError(
            f"{text}: none of the patterns is in it ({', '.join(kind.name for kind in kinds)}); {EXTRACTING} declares "
            "others (docs/from-text.md)"
        )
    texts = [(file, _written(file.content)) for file in files]
    for file, content in texts:
        write_text(file.path, content)
        for line in file.said:
            console.print(f"{file.path.stem}: {line}", markup=False)


def _made(corpus: Path, text: str, treatise: str, title: str, kind: Kind, passages: Sequence[Passage]) -> Made | None:
    path = file_of(corpus, text, kind.name)
    before = load_yaml(path, ExtractedFile) if path.is_file() else None
    found = [(passage, finding) for passage in passages for finding in kind.extractor(passage.text)]
    new_ones = [
        Extracted(
            question=finding.question, answer=finding.answer, kept=True, place=passage.at(finding.start),
            fascicle=passage.fascicle, passage=passage.text[finding.start : finding.end],
        )
        for passage, finding in found
    ]  # fmt: skip
    if not new_ones and not before:
        return None
    entries, said = merged(before.entries if before else [], _once(new_ones), passages)
    content = validated(
        ExtractedFile,
        {
            "text": text,
            "treatise": treatise or (before.treatise if before else title),
            "kind": kind.name,
            "answer_type": kind.answer_type,
            "wordings": before.wordings if before else kind.wordings,
            "entries": _in_order(entries, passages),
        },
        str(path),
    )
    kept = len(content.kept)
    count = f"{len(entries)} questions, {kept} kept, {len(entries) - kept} struck: {path}"
    return Made(path, content, [count, *said])


def _once(entries: Sequence[Extracted]) -> list[Extracted]:
    """Of a question that is answered alike in several places the first."""
    first: dict[tuple[str, str], Extracted] = {}
    for entry in entries:
        first.setdefault((entry.question, compared(entry)), entry)
    return list(first.values())


def merged(
    before: Sequence[Extracted], found: Sequence[Extracted], passages: Sequence[Passage]
) -> tuple[list[Extracted], list[str]]:
    """What a file is to hold, and what there is to say of it.

    An entry that is there stays as it is; one whose passage no longer stands is struck. What is found and not there is
    added. Two that are kept and answer one question differently are both struck.

    Args:
        before: as the file has them. found: as the text has them now.
    """
    said, entries = [], []
    now = {(entry.question, entry.place): entry for entry in found}
    for entry in before:
        extracted = now.pop((entry.question, entry.place), None)
        if not stands(entry, passages):
            said.append(
                f"{entry.place}, {entry.question}: {GONE}: {'struck' if entry.kept else 'it was struck before'}"
            )
            entry = entry.model_copy(update={"kept": None, "struck": GONE, "verdict": None}) if entry.kept else entry
        elif extracted is None and entry.kept:
            said.append(f"{entry.place}, {entry.question}: no longer extracted; it stays as an entry of yours")
        elif extracted and compared(extracted) != compared(entry) and entry.kept:
            said.append(
                f"{entry.place}, {entry.question}: {render(entry.answer)} in the file stays, "
                f"{render(extracted.answer)} is extracted now; delete the entry to take that"
            )
        entries.append(entry)
    answered = {(entry.question, compared(entry)) for entry in entries}
    added = [entry for entry in now.values() if (entry.question, compared(entry)) not in answered]
    said += [f"{len(added)} new"] * bool(added and before)
    for question, same in by_question([entry for entry in [*entries, *added] if entry.kept]).items():
        if len({compared(entry) for entry in same}) > 1:
            both = "; ".join(f"{render(entry.answer)} at {entry.place}" for entry in same)
            said.append(f"{question}: answered differently, all struck: {both}")
            entries = [_disputed(entry, same) if entry in same else entry for entry in entries]
            added = [_disputed(entry, same) if entry in same else entry for entry in added]
    return [*entries, *added], said


def _disputed(entry: Extracted, same: Sequence[Extracted]) -> Extracted:
    others = [other for other in same if compared(other) != compared(entry)]
    reason = "also answered " + "; ".join(f"{render(other.answer)} at {other.place}" for other in others)
    return entry.model_copy(update={"kept": None, "struck": reason, "verdict": None})


def stands(review: Review, passages: Sequence[Passage]) -> bool:
    """Whether its passage begins in the printed line that it names."""
    return any(True for _ in _offsets(review, passages))


def _offsets(review: Review, passages: Sequence[Passage]) -> Iterator[tuple[int, int]]:
    """(number of the passage of the text, offset in it) wherever the passage stands at its place."""
    for number, passage in enumerate(passages):
        at = passage.text.find(review.passage) if passage.fascicle == review.fascicle else -1
        while at >= 0:
            if passage.at(at) == review.place:
                yield number, at
            at = passage.text.find(review.passage, at + 1)


def _in_order(entries: Sequence[Extracted], passages: Sequence[Passage]) -> list[Extracted]:
    """As they stand in the text; at the end those that do not."""
    return sorted(entries, key=lambda entry: next(_offsets(entry, passages), (len(passages), 0)))


def _table(corpus: Path, text: str, treatise: str, title: str, passages: Sequence[Passage]) -> Made | None:
    """The six causes under the gates; None where the text has none and there is no file."""
    path = file_of(corpus, text, CAUSES_VALUES)
    before = load_yaml(path, GateTable) if path.is_file() else None
    found = [(passage, gate) for passage in passages for gate in gates_of_causes(passage.text)]
    gates = [(passage, gate) for passage, gate in found if isinstance(gate, Gate)]
    if not gates and not before:
        return None
    said = [f"not read: {gate}" for _, gate in found if isinstance(gate, str)]
    axes, reviewed = _gates(gates)
    if before:
        said += _kept_gates(before, axes, reviewed, passages)
    content = validated(
        GateTable,
        {
            "text": text,
            "treatise": treatise or (before.treatise if before else title),
            "kind": CAUSES_VALUES,
            "elements": list(CAUSES),
            "phrasings": before.phrasings if before else _phrasings(),
            "axes": list(axes.values()),
            "reviewed": {name: reviewed[name] for name in axes},
        },
        str(path),
    )
    kept = sum(bool(review.kept) for review in content.reviewed.values())
    return Made(path, content, [f"{len(content.axes)} gates × {len(CAUSES)} causes, {kept} gates kept: {path}", *said])


def _phrasings() -> list[Phrasing]:
    *trained, held_out = CAUSES_WORDINGS
    return [*(Phrasing(text=text) for text in trained), Phrasing(text=held_out, held_out="test")]


def _gates(gates: Sequence[tuple[Passage, Gate]]) -> tuple[dict[str, Any], dict[str, Review]]:
    axes: dict[str, Any] = {}
    reviewed: dict[str, Review] = {}
    for passage, gate in gates:
        if gate.name in axes:  # the first place is the one that is cited
            continue
        rows: dict[tuple[str, ...], list[str]] = {}
        for cause, held in gate.values.items():
            rows.setdefault(held, []).append(cause)
        axes[gate.name] = {
            "name": gate.name,
            "fascicle": passage.fascicle,
            "alternatives": list(gate.alternatives),
            "values": [{"of": causes, "is": list(held)} for held, causes in rows.items()],
        }
        reviewed[gate.name] = Review(
            place=passage.at(gate.start),
            fascicle=passage.fascicle,
            passage=passage.text[gate.start : gate.end],
            kept=True,
        )
    return axes, reviewed


def _kept_gates(
    before: GateTable, axes: dict[str, Any], reviewed: dict[str, Review], passages: Sequence[Passage]
) -> list[str]:
    """Take over what a person said of the gates that are there. Returns what there is to say of it."""
    said = []
    for axis in before.axes:
        review = before.reviewed[axis.name]
        if not stands(review, passages):
            said.append(f"{review.place}, {axis.name}: {GONE}")
            review = review.model_copy(update={"kept": None, "struck": review.struck or GONE, "verdict": None})
        elif axis.name not in axes and review.kept:
            said.append(f"{review.place}, {axis.name}: no longer extracted; it stays as a gate of yours")
        axes[axis.name] = axis.model_dump(by_alias=True)
        reviewed[axis.name] = review
    added = [name for name in axes if name not in before.reviewed]
    return said + [f"new gates: {'、'.join(added)}"] * bool(added)


_HEAD = """\
# Questions that {text} itself asks and answers, as `upaya extract {text}` found them: docs/from-text.md.
# Strike one by `struck: why` in place of `kept: true`; extracting again keeps that, and what you mend.
"""


def _written(content: ExtractedFile | GateTable) -> str:
    plain = content.model_dump(by_alias=True, exclude_defaults=True)
    if isinstance(content, GateTable):
        plain = _shown_table(plain)
    else:
        for entry in plain["entries"]:
            if isinstance(entry["answer"], list):
                entry["answer"] = in_one_line(entry["answer"])
        order = ("question", "answer", "place", "fascicle", "passage", "kept", "struck", "verdict")
        plain["entries"] = [{key: entry[key] for key in order if key in entry} for entry in plain["entries"]]
    return _HEAD.format(text=content.text) + new(plain)


def _shown_table(plain: dict[str, Any]) -> dict[str, Any]:
    order = ("text", "treatise", "kind", "phrasings", "elements", "groups", "axes", "reviewed")
    plain["elements"] = in_one_line(plain["elements"])
    for axis in plain["axes"]:
        axis["alternatives"] = in_one_line(axis["alternatives"])
        axis["values"] = [{key: in_one_line(names) for key, names in value.items()} for value in axis["values"]]
    return {key: plain[key] for key in order if plain.get(key)}

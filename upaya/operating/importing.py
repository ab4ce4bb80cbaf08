"""`upaya import`: somebody's text made passages below the corpus's folder, with what was wrong with it."""

from collections.abc import Callable
from pathlib import Path

from upaya.corpus.texts.assembling import Imported
from upaya.corpus.texts.passages import FAULTS, MANIFEST, Manifest, write_passages
from upaya.declared.validation import Name, read_yaml, validated
from upaya.errors import UserError
from upaya.files import sha256_file
from upaya.paths import DATA_POINTER
from upaya.terminal import console

TEXTS = "texts"


def _kanripo(what: Path) -> Imported:
    from upaya.corpus.texts.kanripo import read_kanripo

    return read_kanripo(what)


def _cbeta(what: Path) -> Imported:
    from upaya.corpus.texts.cbeta import read_cbeta

    return read_cbeta(what)


def _plain(what: Path) -> Imported:
    from upaya.corpus.texts.plain import read_plain

    return read_plain(what)


IMPORTERS: dict[str, Callable[[Path], Imported]] = {"kanripo": _kanripo, "cbeta": _cbeta, "text": _plain}


def import_text(importer: str, what: Path, name: str) -> Path:
    """Write corpus/texts/NAME and print what is in it and what was wrong; the folder.

    Args:
        importer: a key of IMPORTERS.
        name: what the import is called; "" for the work's id, or the folder's name where there are several works.

    Raises:
        UserError: nothing is there, or no passage was found in it. Nothing is written then, and what an earlier import
            of the name wrote stays.
    """
    if not what.exists():
        raise UserError(f"{what}: no such file or folder")
    texts = texts_folder()
    imported = IMPORTERS[importer](what)
    if not imported.passages:
        first = "\n       ".join(map(str, imported.faults.first_of_each()))
        raise UserError(
            f"{what}: no passage found in {len(imported.files)} files; nothing was written. Are they what "
            f"`upaya import {importer}` reads (docs/texts.md)?" + f"\n       {first}" * bool(first)
        )
    works = list(imported.works)
    name = validated(Name, name or (works[0] if len(works) == 1 else what.resolve().name), "--name")
    manifest = write_passages(
        texts / name, imported.passages, [str(fault) for fault in imported.faults.all], texts,
        importer=imported.importer, works=imported.works, edition=imported.edition, licence=imported.licence,
        files={file: sha256_file(path) for file, path in imported.files.items()}, faults=imported.faults.counts(),
    )  # fmt: skip
    _say(name, texts / name, manifest, imported)
    return texts / name


def texts_folder() -> Path:
    """Where imports lie: in the folder that DVC brings to data/. Raises UserError where it is not there."""
    corpus = Path(read_yaml(DATA_POINTER)["deps"][0]["path"])
    if not corpus.is_dir():
        raise UserError(f"{DATA_POINTER} points at {corpus}, and there is no such folder")
    return corpus / TEXTS


def text_folder(name_or_folder: str) -> Path:
    """An import by its name or its folder. Raises UserError for neither."""
    for folder in (texts_folder() / name_or_folder, Path(name_or_folder)):
        if (folder / MANIFEST).is_file():
            return folder
    there = sorted(path.parent.name for path in texts_folder().glob(f"*/{MANIFEST}"))
    raise UserError(
        f"{name_or_folder}: no import of this name and no folder with one; imported: {', '.join(there) or 'none'}"
    )


def _say(name: str, folder: Path, manifest: Manifest, imported: Imported) -> None:
    counts = manifest.counts
    lines = [
        f"{', '.join(f'{work} {title}' for work, title in manifest.works.items())}",
        f"edition: {manifest.edition or 'not stated'}; licence, as the source states it: {manifest.licence}",
        f"{counts.fascicles} fascicles, {counts.passages} passages, {counts.lines} printed lines, {counts.characters} "
        f"characters in {folder}, from {imported.passages[0].place} to {imported.passages[-1].place}",
    ]
    firsts = {fault.kind: fault for fault in imported.faults.first_of_each()}
    lines += [f"{kind}: {count}, the first at {firsts[kind]}" for kind, count in manifest.faults.items()]  # type: ignore[index]
    lines += [f"all of them: {folder / FAULTS}"] * bool(manifest.faults)
    for line in lines:
        console.print(f"{name}: {line}", markup=False)

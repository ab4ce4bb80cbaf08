"""Questions in a dataset of the `datasets` library: from the hub, at a fixed revision, or in a folder below data/."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from upaya.corpus.questions import Split
from upaya.corpus.sources.rows import OTHERS_SAY, Row, as_split
from upaya.declared.questions import HuggingFaceSource
from upaya.errors import UserError, nearest


def huggingface_rows(name: str, declared: HuggingFaceSource, data: Path) -> Iterator[Row]:
    """Every row of the splits that are named, or of all there are under names that say train, validation or test."""
    dataset = _loaded(name, declared, data)
    for theirs, ours in _splits(name, declared, dataset).items():
        for number, values in enumerate(dataset[theirs]):
            yield Row(values, f"{declared.dataset}, {theirs}, row {number}", ours)


def _splits(name: str, declared: HuggingFaceSource, dataset: Mapping[str, Any]) -> dict[str, Split]:
    """Their names of splits → ours."""
    for theirs in declared.splits.values():
        if theirs not in dataset:
            raise UserError(f"source {name!r}: {declared.dataset} has no split {theirs!r}; {nearest(theirs, dataset)}")
    if declared.splits:
        return {theirs: as_split(ours, f"source {name!r}: splits") for ours, theirs in declared.splits.items()}
    known = {theirs: OTHERS_SAY.get(theirs, theirs) for theirs in dataset}
    return {theirs: as_split(ours, f"source {name!r}: {declared.dataset}") for theirs, ours in known.items()}


def _loaded(name: str, declared: HuggingFaceSource, data: Path) -> Mapping[str, Any]:
    import datasets

    folder = data / declared.dataset
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
        elif folder.is_dir():
            loaded = datasets.load_dataset(str(folder), declared.config)
        elif declared.revision:
            loaded = datasets.load_dataset(declared.dataset, declared.config, revision=declared.revision)
        else:
            raise UserError(
                f"source {name!r}: {folder} is no folder; of a dataset of the hub name the `revision` too (40 "
                "hexadecimal digits), so that it is known what the questions were made from"
            )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"source {name!r}: the dataset {declared.dataset} cannot be read: {error}") from None
    return loaded if isinstance(loaded, dict) else {"train": loaded}

"""Questions in files below data/: JSON lines, CSV, parquet; a row each."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from upaya.corpus.sources.rows import Row
from upaya.declared.questions import FileSource
from upaya.errors import UserError
from upaya.files import read_jsonl, read_text

DELIMITERS = ",;\t|"


def file_rows(declared: FileSource, data: Path) -> Iterator[Row]:
    """Every row of the files that the source's pattern names, in the order of their names. Raises UserError."""
    files = sorted(data.glob(declared.files))
    if not files:
        raise UserError(f"{data / declared.files}: no such file; a source's files lie below {data}/, as data.dvc says")
    for file in files:
        yield from READERS[declared.type](file)


def _json_lines(file: Path) -> Iterator[Row]:
    for line, row in read_jsonl(file):
        if not isinstance(row, dict):
            raise UserError(f"{file}, line {line}: a question is a JSON object, this is {type(row).__name__}")
        yield Row(row, f"{file}, line {line}")


def _csv(file: Path) -> Iterator[Row]:
    lines = read_text(file).removeprefix("\ufeff").splitlines(keepends=True)
    header = lines[0] if lines else ""
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True, restkey="")
    try:
        for row in reader:
            place = f"{file}, line {reader.line_num}"
            if "" in row or None in row.values():
                width = len(reader.fieldnames or ())
                raise UserError(f"{place}: other than {width} columns; is a comma or a quotation mark amiss?")
            yield Row(row, place)
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: not valid CSV ({error})") from None


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file}: not a readable parquet file ({error})") from None
    number = 0
    for batch in table.to_batches():
        for values in batch.to_pylist():
            number += 1
            yield Row(values, f"{file}, row {number}")


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {"jsonl": _json_lines, "csv": _csv, "parquet": _parquet}

"""What is right without knowing anything, as convert states it in questions/report.json."""

from pathlib import Path

from typing_extensions import TypedDict

from upaya.records.reading import finite, read_file

Accuracies = dict[str, dict[str, float]]  # group → baseline → share of the test questions that it answers exactly


@finite
class Report(TypedDict):
    """Of questions/report.json, which convert writes."""

    baselines: Accuracies


def accuracies_of(folder: Path) -> Accuracies:
    """What convert found. Raises UserError where it has not run, or its report is damaged."""
    return read_file(folder / "report.json", Report, "`dvc repro convert`")["baselines"]

"""reports/throughput/<policy>.jsonl: where the time of a stage went. It is no part of the policy: times are never the
same twice."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

from typing_extensions import TypedDict

from upaya.files import is_there
from upaya.paths import THROUGHPUT
from upaya.records.reading import Count, flow, read_lines, written

Part = Literal["rollouts", "scoring", "update", "validation", "checkpoint", "rest"]
PARTS: tuple[Part, ...] = get_args(Part)


@written
class Timed(TypedDict):
    """A step. Attributes: seconds: of each part, which add up to the step's. tokens: that went through a part, those of
    prompts left out."""

    step: Count
    seconds: dict[Part, float]
    tokens: dict[Part, Count]


def throughput_of(policy: str) -> list[Timed]:
    """The lines of a built policy's file; none where it has none, as a policy that was handed on without it. Raises
    UserError where it is damaged."""
    file = THROUGHPUT / f"{policy}.jsonl"
    return read_lines(file, cast(Any, Timed), flow(policy)) if is_there(file) else []


def rates(lines: Sequence[Timed]) -> dict[str, dict[Part, float]]:
    """What some steps come to: `share` of the time by part, and `tokens_per_second` of the parts that tokens go
    through."""
    seconds, tokens = defaultdict[Part, float](float), Counter[Part]()
    for line in lines:
        tokens.update(line["tokens"])
        for part, value in line["seconds"].items():
            seconds[part] += value
    whole = sum(seconds.values())
    return {
        "share": {part: value / whole for part, value in seconds.items()} if whole else {},
        "tokens_per_second": {part: count / seconds[part] for part, count in tokens.items() if seconds[part]},
    }


def timed(records: Sequence[Mapping[str, Any]], lines: Sequence[Timed]) -> list[dict[str, Any]]:
    """Lines of a history, each step's with its `throughput`."""
    by_step = {line["step"]: line for line in lines}
    return [
        {**record, "throughput": rates([by_step[record["step"]]])}
        if "event" not in record and record["step"] in by_step
        else dict(record)
        for record in records
    ]

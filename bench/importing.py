"""How long reading a Kanripo text and converting it take beside OpenCC alone.

python -m bench.importing FOLDER

OpenCC alone is: load its dictionaries, read the files, convert them as they stand. Processor time, the least of some
runs.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from upaya.corpus.script import Converter
from upaya.corpus.texts.kanripo import read_kanripo

RUNS = 15


def seconds(work: Callable[[], object]) -> float:
    """Of the fastest run."""
    times = []
    for _ in range(RUNS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def opencc_alone(folder: Path) -> None:
    converter = Converter()
    for path in sorted(folder.glob("*.txt")):
        converter.simplify(path.read_text(encoding="utf-8", errors="replace"))


def imported_and_converted(folder: Path) -> None:
    converter = Converter()
    for passage in read_kanripo(folder).passages:
        converter.simplify(passage.text)


def main() -> None:
    folder = Path(sys.argv[1])
    alone = seconds(lambda: opencc_alone(folder))
    reading = seconds(lambda: read_kanripo(folder))
    both = seconds(lambda: imported_and_converted(folder))
    passages = read_kanripo(folder).passages
    print(f"{len(passages)} passages, {sum(len(passage.text) for passage in passages)} characters")
    print(f"OpenCC alone {alone:.4f} s; reading {reading:.4f} s; both {both:.4f} s: {both / alone:.2f} times")


if __name__ == "__main__":
    main()

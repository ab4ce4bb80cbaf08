"""How long reading a Kanripo text and converting it take beside OpenCC alone.

python -m bench.importing FOLDER

OpenCC alone is: load its dictionaries, read the files, convert them as they stand. Processor time, both by turns: a
machine's other work then falls on both. The median of the ratios counts.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

from upaya.corpus.script import Converter
from upaya.corpus.texts.kanripo import read_kanripo

ROUNDS = 21


def seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


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
    passages = read_kanripo(folder).passages
    print(f"{len(passages)} passages, {sum(len(passage.text) for passage in passages)} characters")
    rounds = [
        (seconds(lambda: opencc_alone(folder)), seconds(lambda: imported_and_converted(folder))) for _ in range(ROUNDS)
    ]
    ratios = [both / alone for alone, both in rounds]
    low, _, high = quantiles(ratios, n=4)
    alone, both = (median(times) for times in zip(*rounds, strict=True))
    print(
        f"OpenCC alone {alone:.4f} s; reading and converting {both:.4f} s: {median(ratios):.2f} times "
        f"(quartiles {low:.2f} and {high:.2f})"
    )


if __name__ == "__main__":
    main()

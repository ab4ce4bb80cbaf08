"""Which question is trained on and which is tested: by key, at the declared shares, and never the same one in both."""

import random
from collections.abc import Iterator, Sequence

from upaya.corpus.questions import SPLITS, Split
from upaya.corpus.sources.entry import Entry
from upaya.declared.questions import Shares


def shared_out(keys: list[str], shares: Shares, rng: random.Random) -> Iterator[tuple[Split, list[str]]]:
    """The keys of each split, sorted; `keys` is shuffled."""
    rng.shuffle(keys)
    test = round(len(keys) * shares.test)
    validation = round(len(keys) * shares.validation)
    yield "test", sorted(keys[:test])
    yield "validation", sorted(keys[test : test + validation])
    yield "train", sorted(keys[test + validation :])


def split_of_each(
    entries: Sequence[Entry], keys: Sequence[str], fixed: dict[str, Split], shares: Shares, rng: random.Random
) -> list[Split]:
    """The split of each entry: its own; else the one that its key is in already; else one at the declared shares.

    A split that no entry has of its own is taken from the training entries, at its share of what both have.

    Args:
        keys: of the entries.
        fixed: keys that other sources have in a split already.
    """
    own: set[Split] = {entry.split for entry in entries if entry.split}
    named: dict[str, Split] = {key: entry.split for key, entry in zip(keys, entries, strict=True) if entry.split}
    free = {key for key in keys if key not in named}
    wanted = shares
    if own and not free:
        lacking = [split for split in SPLITS if split not in own]
        if not lacking or "train" not in own:
            return [entry.split or "train" for entry in entries]
        free = {key for key, split in named.items() if split == "train"}
        total = shares.train + sum(getattr(shares, split) for split in lacking)
        parts = {split: getattr(shares, split) / total for split in ("train", *lacking)}
        wanted = Shares.model_construct(**{split: parts.get(split, 0.0) for split in SPLITS})
    drawn = {key: split for split, of_split in shared_out(sorted(free - fixed.keys()), wanted, rng) for key in of_split}
    assigned = named | drawn | {key: fixed[key] for key in free if key in fixed}
    return [assigned[key] for key in keys]

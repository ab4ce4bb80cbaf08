"""The colours of arms and of groups' fates, the same in MLflow, in figures and on the page."""

import hashlib
from collections.abc import Sequence

# Told apart by the colour-blind, and on white and black: Tol's bright and muted schemes (Paul Tol, SRON/EPS/TN/09-002).
ARMS = (
    "#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#999933", "#882255", "#44AA99", "#BBBBBB",
)  # fmt: skip
# What a group can teach: nothing as yet, something, nothing any more.
FATES = {"dead_all_wrong": "#CC6677", "live": "#4477AA", "dead_all_right": "#DDCC77"}


def colour(name: str, known: Sequence[str]) -> str:
    """An arm's colour, by its place among those declared; any other's by its name: the same everywhere."""
    place = known.index(name) if name in known else int(hashlib.sha256(name.encode()).hexdigest(), 16)
    return ARMS[place % len(ARMS)]

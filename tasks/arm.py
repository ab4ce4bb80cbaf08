"""arm: reports/arms/<policy>.json, what one arm of the comparison came to, from its evaluation."""

from upaya.declared.selection import Selection
from upaya.declared.validation import Declared, load_keys
from upaya.measuring.comparison import write_arm
from upaya.paths import CURRICULA


class Params(Declared):
    """Of params/curricula.yaml."""

    questions: Selection


def main(name: str) -> None:
    write_arm(name, load_keys(CURRICULA, Params).questions)

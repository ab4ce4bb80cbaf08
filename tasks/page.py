"""page: reports/pages/<policy>.html, one self-contained page over a curriculum."""

from upaya.declared.validation import Declared, Name, load_keys
from upaya.page.course import Course
from upaya.page.writing import write_page
from upaya.paths import CURRICULA, PAGES
from upaya.terminal import console

GROUPS = 400  # that it shows


class Params(Declared):
    """Of params/curricula.yaml."""

    compare: list[Name]


def main(name: str) -> None:
    path = PAGES / f"{name}.html"
    known = load_keys(CURRICULA, Params).compare
    write_page([Course.of(name, GROUPS)], known, f"python -m flows.curriculum {name}", path)
    console.print(f"page: {path}")

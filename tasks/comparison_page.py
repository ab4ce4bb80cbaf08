"""comparison_page: reports/compare/page.html, one self-contained page over all arms of the comparison."""

from upaya.declared.validation import Declared, Name, load_keys
from upaya.page.course import Course
from upaya.page.writing import write_page
from upaya.paths import COMPARISON, CURRICULA
from upaya.terminal import console


class Params(Declared):
    """Of params/curricula.yaml."""

    compare: list[Name]


def main() -> None:
    arms = load_keys(CURRICULA, Params).compare
    path = COMPARISON / "page.html"
    write_page([Course.read(name) for name in arms], arms, "python -m flows.curriculum compare", path)
    console.print(f"page: {path}")

"""arm: what one arm of the comparison came to, for the table (reports/arms/) and for the page (reports/courses/)."""

from upaya.declared.selection import Selection
from upaya.declared.validation import Declared, load_keys
from upaya.measuring.comparison import write_arm
from upaya.page.course import Course
from upaya.paths import CURRICULA

GROUPS = 60  # that a page over all arms shows of each


class Params(Declared):
    """Of params/curricula.yaml."""

    questions: Selection


def main(name: str) -> None:
    course = Course.of(name, GROUPS)  # both or neither: what is damaged is found before anything is written
    write_arm(name, load_keys(CURRICULA, Params).questions)
    course.write()

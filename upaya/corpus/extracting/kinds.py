"""The kinds of questions that are extracted without being declared. One more: its function, and its line here."""

from collections.abc import Sequence
from dataclasses import dataclass

from upaya.corpus.answers import AnswerType
from upaya.corpus.authored import Phrasing
from upaya.corpus.extracting.amounts import elements_places_aggregates
from upaya.corpus.extracting.enumerations import enumerations, own_nature_count, whether_there_is
from upaya.corpus.extracting.extension import extension_of_terms
from upaya.corpus.extracting.pairs import conditions_of_pair
from upaya.corpus.extracting.reading import Extractor


@dataclass(frozen=True)
class Kind:
    """Attributes: wordings: the last of them is held out for the test split."""

    name: str
    answer_type: AnswerType
    extractor: Extractor
    wordings: Sequence[Phrasing]


def _kind(name: str, answer_type: AnswerType, extractor: Extractor, *wordings: str) -> Kind:
    trained = [Phrasing(text=text) for text in wordings[:-1]]
    return Kind(name, answer_type, extractor, [*trained, Phrasing(text=wordings[-1], held_out="test")])


KINDS = (
    _kind(
        "conditions_of_pair", "set", conditions_of_pair,
        "依《{treatise}》，{question}？於因、等無間、所緣、增上四緣中全部列出，以「、」隔開，次序不拘。",
        "《{treatise}》中問：{question}？請從因、等無間、所緣、增上中列出所有，以「、」分隔，不論次序。",
        "今依《{treatise}》問：{question}？四緣為因、等無間、所緣、增上，請寫出其中全部，用「、」隔開，次序不限。",
    ),
    _kind(
        "extension_of_terms", "term", extension_of_terms,
        "《{treatise}》問：{question}耶？請答「四句」、「順前句」、「順後句」、「如是」或「不爾」。",
        "依《{treatise}》，{question}耶？應答「四句」、「順前句」、「順後句」、「如是」、「不爾」中何者？",
        "於《{treatise}》中，問「{question}耶」者，應以「四句」、「順前句」、「順後句」、「如是」、「不爾」中的哪一種作答？",
    ),
    _kind(
        "elements_places_aggregates", "ordered_list", elements_places_aggregates,
        "依《{treatise}》，{question}？請以中文數字依次答界、處、蘊之數，以「、」隔開。",
        "《{treatise}》說：{question}？依界、處、蘊的次序寫出三個中文數字，用「、」分隔。",
        "請按《{treatise}》作答：{question}？答以三個中文數字，先界、次處、後蘊，以「、」隔開。",
    ),
    _kind(
        "enumerations", "ordered_list", enumerations,
        "《{treatise}》{fascicle}說：{question}。依次列出是哪些，以「、」隔開。",
        "依《{treatise}》{fascicle}，{question}，各名為何？請依論中次序列出，用「、」分隔。",
        "請按《{treatise}》{fascicle}的次序，寫出：{question}，何等為是？以「、」隔開。",
    ),
    _kind(
        "whether_there_is", "boolean", whether_there_is,
        "《{treatise}》問：{question}耶？有則答「是」，無則答「否」。",
        "依《{treatise}》，{question}耶？若有，請答「是」；若無，請答「否」。",
        "請依《{treatise}》判斷：{question}耶？論中答有者答「是」，答無者答「否」。",
    ),
    _kind(
        "own_nature_count", "number", own_nature_count,
        "依《{treatise}》，{question}？請答一個數字。",
        "《{treatise}》中，{question}？只答數字。",
        "請按《{treatise}》作答：{question}？寫出數字即可。",
    ),
)  # fmt: skip

CAUSES_VALUES = "causes_values"
CAUSES_WORDINGS = (
    "依《{treatise}》，{element}於下列諸門各屬何類？請依所列次序逐門作答，門與門以「、」隔開；一門之中兼屬數類者，依所列次序以「及」相連。諸門：{axes}。",
    "《{treatise}》以諸門分別六因。今問{element}依次於下列各門應屬何類，各門之答以「、」分隔，兼屬數類的一門以「及」相連。諸門：{axes}。",
    "今問六因中的{element}：依《{treatise}》於以下各門屬於何類？依次作答，用「、」分隔各門；一門兼屬數類時，以「及」相連。各門：{axes}。",
    "《{treatise}》：{element}屬何類？逐門依次作答，以「、」隔開，通數類者用「及」。各門：{axes}。",
    "請依《{treatise}》，就以下各門判定六因中的{element}各屬何類。逐門作答，次序不變，以「、」隔開；一門兼屬數類者，依所列次序以「及」相連。諸門：{axes}。",
)  # the last is held out for the test split

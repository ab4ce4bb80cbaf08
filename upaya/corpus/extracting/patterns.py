"""Declared patterns as extractors, bounded in time."""

import re
from collections.abc import Iterator

from upaya.corpus.answers import ANSWER_TYPES, LISTS, Answer, AnswerType
from upaya.corpus.authored import Phrasing
from upaya.corpus.extracting.kinds import KINDS, Kind
from upaya.corpus.extracting.reading import Finding
from upaya.corpus.sources.rows import typed
from upaya.declared.extracting import ExtractingParams, Pattern
from upaya.errors import UserError, nearest
from upaya.time_limit import Overtime, within

SECONDS = 20.0  # that a pattern may take for one passage


def declared_kinds(params: ExtractingParams, where: str) -> list[Kind]:
    """The patterns as kinds. Args: where: the file, for messages. Raises UserError naming pattern and key."""
    return [_kind(name, pattern, f"{where}: key 'patterns.{name}") for name, pattern in params.patterns.items()]


def _kind(name: str, pattern: Pattern, where: str) -> Kind:
    known = next((kind for kind in KINDS if kind.name == name), None)
    if known:
        raise UserError(f"{where}': {name} is a kind of its own already; call the pattern otherwise")
    if pattern.answer_type not in ANSWER_TYPES:
        raise UserError(
            f"{where}.answer_type': unknown type {pattern.answer_type!r}; {nearest(pattern.answer_type, ANSWER_TYPES)}"
        )
    answer_type: AnswerType = pattern.answer_type
    if pattern.separator and answer_type not in LISTS:
        raise UserError(f"{where}.separator': a {answer_type} has no items; leave it out, or answer_type: set")
    expression = re.compile(pattern.pattern)

    def extractor(text: str) -> Iterator[Finding]:
        try:
            with within(SECONDS):
                matches = list(expression.finditer(text))
        except Overtime:
            raise UserError(
                f"{where}.pattern': takes more than {SECONDS:g} s for one passage; repetitions within repetitions, as "
                "in (a+)+, do that: write what stands between two marks as [^…]{1,80}"
            ) from None
        for match in matches:
            question, said = (match["question"] or "").strip(), (match["answer"] or "").strip()
            if question and said and (not pattern.answers or said in pattern.answers):
                answer = _answer(said, pattern, answer_type, f"{where}': {match.group()[:60]!r}")
                yield Finding(question, answer, match.start(), match.end())

    return Kind(name, answer_type, extractor, [Phrasing(text=wording) for wording in pattern.wordings])


def _answer(said: str, pattern: Pattern, answer_type: AnswerType, where: str) -> Answer:
    value = pattern.answers.get(said, said)
    if pattern.separator and isinstance(value, str):
        return typed([part.strip() for part in value.split(pattern.separator)], answer_type, where)
    return typed(value, answer_type, where)

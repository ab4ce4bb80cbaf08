"""All sources together: converted, split, held against each other; what is wrong or odd about them is said here, before
anything trains."""

import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from upaya.corpus.answers import Answer, Form, normalised, parse, render, unspeakable
from upaya.corpus.matching import is_exact
from upaya.corpus.questions import SPLITS, Question, Split
from upaya.corpus.script import Converter
from upaya.corpus.sources.entry import Entry, Source
from upaya.corpus.sources.text import ImportedText
from upaya.corpus.splitting import split_of_each
from upaya.declared.questions import CorpusSource, QuestionParams, Shares, TextSource
from upaya.errors import UserError

# Below these a curriculum learns, or its figures say, next to nothing.
FEWEST: dict[Split, int] = {"train": 32, "validation": 16, "test": 32}

LONGEST = 100_000  # characters of a question or an answer: no model of today is asked more


@dataclass
class Gathered:
    """Attributes:
    text: lines to pre-train on.
    shortcuts: question id → cheap rule → the answer that it gives.
    said: what the user should know, in words.
    """

    questions: list[Question] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    shortcuts: dict[str, dict[str, Answer]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Asked:
    """Where a question stands first. Attributes: answer: as it is compared."""

    place: str
    split: Split
    answer: tuple[str, ...]


def gather(sources: Mapping[str, Source], params: QuestionParams, converter: Converter) -> Gathered:
    """The questions of all sources, in a fixed order: the same sources and params give the same.

    One that stands twice is taken once. Raises UserError where two sources, or two lines of one, disagree about an
    answer or about the split, where an answer is none, and where a split stays empty.
    """
    gathered = Gathered()
    asked: dict[str, _Asked] = {}
    ids: dict[str, str] = {}
    for name, source in sources.items():
        declared = params.sources[name]
        if isinstance(declared, TextSource):
            continue
        converts = isinstance(declared, CorpusSource) or declared.script == "traditional"
        shares = declared.other_kinds if isinstance(declared, CorpusSource) else declared.shares
        entries = list(source.entries())
        prompts = [converter.simplify(entry.prompt) if converts else entry.prompt for entry in entries]
        same = [_compared(entry.prompt, converter) for entry in entries]
        splits = _split(name, entries, prompts, same, asked, shares, params.seed)
        twice = 0
        for number, (entry, prompt, split) in enumerate(zip(entries, prompts, splits, strict=True)):
            _need_readable(entry)
            question = _question(name, number, entry, prompt, split, declared.form, converter if converts else None)
            if _stands_already(question, same[number], entry.place, asked):
                twice += 1
                continue
            if question.id in ids:
                raise UserError(
                    f"{entry.place}: the id {question.id!r} stands already in {ids[question.id]}; ids are unique"
                )
            ids[question.id] = entry.place
            gathered.questions.append(question)
            if entry.shortcuts:
                gathered.shortcuts[question.id] = entry.shortcuts
        gathered.text += [converter.simplify(line) if converts else line for line in source.text()]
        if unread := list(source.unread()):
            gathered.said.append(f"{name}: not read: {', '.join(unread)}")
        gathered.said += [f"{name}: questions that stand there twice are taken once: {twice}"] * bool(twice)
    gathered.text += _imported(sources.values(), converter, len(gathered.text))
    gathered.said += list(_odd(gathered.questions))
    if not gathered.text:
        gathered.text = [question.prompt for question in gathered.questions if question.split == "train"]
        gathered.said.append("no source has text to pre-train on: a model from scratch reads the training questions")
    return gathered


def _imported(sources: Iterable[Source], converter: Converter, beside: int) -> Iterator[str]:
    """The lines of imported texts. A share is of all lines, these and those of the other sources.

    Args:
        beside: how many lines the sources of questions have.

    Raises:
        UserError: a text has fewer lines than are declared, or the shares cannot be.
    """
    texts = [source for source in sources if isinstance(source, ImportedText)]
    shares = {text.name: text.declared.share for text in texts if text.declared.share is not None}
    counts = {text.name: text.declared.lines or len(text.lines) for text in texts if text.name not in shares}
    others, share = beside + sum(counts.values()), sum(shares.values())
    if shares and (share >= 1 or not others):
        raise UserError(
            f"{', '.join(shares)}: a `share` of all lines to pre-train on leaves room for others, and there are "
            f"{others} others beside {share:.0%}; declare `lines`"
        )
    counts |= {name: round(others * each / (1 - share)) for name, each in shares.items()}
    for text in texts:
        for line in text.some(counts[text.name]):
            yield converter.simplify(line) if text.declared.script == "traditional" else line


def _compared(prompt: str, converter: Converter) -> str:
    """Equal for prompts that ask the same, whatever their source, script, width, white space and what no one sees."""
    return "".join(c for c in normalised(converter.simplify(prompt)) if unicodedata.category(c) != "Cf")


def _need_readable(entry: Entry) -> None:
    """Raises UserError where a question could not be asked or answered as it stands."""
    texts = {"question": entry.prompt, "answer": render(entry.answer), "reasoning": entry.reasoning}
    for what, text in texts.items():
        if wrong := unspeakable(text):
            raise UserError(f"{entry.place}: the {what} holds {wrong}; take it out")
        if len(text) > LONGEST:
            raise UserError(f"{entry.place}: the {what} has {len(text):,} characters; at most {LONGEST:,} are read")


def _split(
    name: str, entries: Sequence[Entry], prompts: Sequence[str], same: Sequence[str], asked: Mapping[str, _Asked],
    shares: Shares, seed: int,
) -> list[Split]:  # fmt: skip
    """Args: same: equal for entries that ask the same."""
    keys = [f"{name}/{entry.key}" if entry.key else normalised(text)
            for entry, text in zip(entries, prompts, strict=True)]  # fmt: skip
    named: dict[str, Entry] = {}
    for key, entry in zip(keys, entries, strict=True):
        first = named.setdefault(key, entry) if entry.split else entry
        if first.split != entry.split:
            raise UserError(_in_two_splits(entry.place, entry.split, first.place, first.split))
    fixed = {key: asked[text].split for key, text in zip(keys, same, strict=True) if text in asked}
    return split_of_each(entries, keys, fixed, shares, random.Random(f"{seed}/{name}/split"))


def _in_two_splits(place: str, split: Split | None, other: str, other_split: Split | None) -> str:
    return (
        f"{place}: this question is in the {split} split, and {other} asks it in the {other_split} split. What "
        "is tested must not be trained on: give both the same split."
    )


def _question(
    name: str, number: int, entry: Entry, prompt: str, split: Split, form: Form, converter: Converter | None
) -> Question:
    """Args: converter: None where nothing is converted."""

    def simplified(text: str) -> str:
        return converter.simplify(text) if converter else text

    def converted(answer: Answer) -> Answer:
        if isinstance(answer, list):
            return [simplified(item) for item in answer]
        return simplified(answer) if isinstance(answer, str) else answer

    question = Question(
        id=entry.id or f"{name}-{number:05d}",
        kind=entry.kind,
        split=split,
        key=entry.key or f"{entry.kind}/{prompt}",
        prompt=prompt,
        answer=converted(entry.answer),
        answer_type=entry.answer_type,
        reasoning=simplified(entry.reasoning),
        source=entry.source,
        difficulty=entry.difficulty,
        held_out_phrasing=entry.held_out_phrasing,
        skills=[simplified(skill) for skill in entry.skills],
        choices=[[simplified(choice) for choice in choices] for choices in entry.choices],
        form=form,
        tolerance=entry.tolerance,
        unit=entry.unit,
        accepted=[[simplified(form) for form in forms] for forms in entry.accepted],
        prompt_traditional=entry.prompt,
        answer_traditional=entry.answer,
    )
    said = parse(question.gold, question.form)
    if not (said.well_formed and is_exact(said.answer, question)):
        raise UserError(
            f"{entry.place}: the answer {entry.answer!r} is read back as {said.answer!r}, which is not right as "
            f"{question.answer_type}: it has a tag, a separator or nothing in it; write it otherwise, or as "
            "another type"
        )
    return question


def _stands_already(question: Question, same: str, place: str, asked: dict[str, _Asked]) -> bool:
    """Whether it was asked before. Raises UserError where it was with another answer, or in another split.

    Args:
        same: as of `_split`.
    """
    answer = question.answer if isinstance(question.answer, list) else [render(question.answer)]
    items = [normalised(item) for item in answer]
    this = _Asked(place, question.split, tuple(sorted(items) if question.answer_type == "set" else items))
    first = asked.setdefault(same, this)
    if first is this:
        return False
    if first.split != this.split:
        raise UserError(_in_two_splits(place, this.split, first.place, first.split))
    if first.answer != this.answer:
        raise UserError(
            f"{place}: the answer is {'、'.join(this.answer)}, and {first.place} asks the same with the answer "
            f"{'、'.join(first.answer)}: which is right?"
        )
    return True


def _odd(questions: Sequence[Question]) -> list[str]:
    """What leads to nothing if it is meant. Raises UserError where a split is empty."""
    counts = Counter(question.split for question in questions)
    for split in SPLITS:
        if not counts[split]:
            raise UserError(
                f"the {split} split is empty: more questions, another share of them for it (`shares`), or questions "
                f"that name {split!r} as their split"
            )
    said = [
        f"{split}: {counts[split]} questions are few; {fewest} or more make it worth a curriculum"
        for split, fewest in FEWEST.items()
        if counts[split] < fewest
    ]
    for kind in dict.fromkeys(question.kind for question in questions):
        answers = Counter(render(question.answer) for question in questions if question.kind == kind)
        total, (commonest, times) = sum(answers.values()), answers.most_common(1)[0]
        if total > 1 and len(answers) == 1:
            raise UserError(f"kind {kind!r}: all {total} answers are {commonest!r}: there is nothing to learn")
        if times > total / 2 and total > 1:
            said.append(f"kind {kind!r}: {commonest!r} is right for {times / total:.0%} of the questions")
    return said

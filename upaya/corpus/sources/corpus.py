"""The authored corpus as a source: how questions are made from it and split, and the text that a base model reads.

Splits are by fact combination (`key`): an element with an ordered tuple of axes, or a list asked in one way. All
questions with one key are in one split, so no combination of a test question was ever trained on."""

import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import cn2an
from pydantic import BaseModel

from upaya.corpus.answers import Answer, AnswerType, render
from upaya.corpus.authored import Axis, Corpus, Elements, NumberedList, Phrasing
from upaya.corpus.questions import SPLITS, Split
from upaya.corpus.sources.entry import Entry
from upaya.corpus.splitting import shared_out
from upaya.declared.questions import CorpusSource, Counts
from upaya.errors import UserError, nearest

OTHER_CHOICES = 3  # beside the right one
MEMBERSHIPS = 3  # of a list, with either answer


class Draft(BaseModel):
    """A question of the corpus before it is worded and split."""

    kind: str
    key: str
    parts: dict[str, str]
    answer: Answer
    answer_type: AnswerType
    reasoning: str
    source: str
    difficulty: int = 1
    skills: list[str] = []
    choices: list[list[str]] = []
    accepted: list[list[str]] = []
    shortcuts: dict[str, Answer] = {}


class CorpusOfElements:
    """The authored corpus as a source. Args: seed: of all draws."""

    def __init__(self, corpus: Corpus, declared: CorpusSource, seed: int) -> None:
        self.corpus, self.declared, self.seed = corpus, declared, seed

    def entries(self) -> Iterator[Entry]:
        """Those of elements and of lists, split and worded. Raises UserError for more than there can be."""
        return _generated(self.corpus, self.declared, self.seed)

    def text(self) -> Iterator[str]:
        """The corpus's facts as plain declarative lines: what a base model reads before it is ever asked.

        Questions, their wordings and the tags of a completion are absent, so a base model knows the terms and not the
        task.
        """
        corpus, rng = self.corpus, random.Random(f"{self.seed}/statements")
        makers = 3 * [_stated_facts] * bool(corpus.elements) + [_stated_list] * bool(corpus.lists)
        return (rng.choice(makers)(corpus, rng) for _ in range(self.declared.statements if makers else 0))

    def unread(self) -> Iterator[str]:
        return iter(())


def _generated(corpus: Corpus, params: CorpusSource, seed: int) -> Iterator[Entry]:
    # A generator of its own for each purpose: more questions of one kind leave those of the others as they were.
    drafts: dict[Split, list[Draft]] = {split: [] for split in SPLITS}
    if corpus.elements:
        for n, counts in params.element_values.items():
            where = f"key 'element_values.{n}' of the corpus"
            rng = random.Random(f"{seed}/element_values/{n}")
            split_by_count(drafts, gate_values(corpus.elements, "element_values", n, rng, where), counts, n, where)
    for kind, generate in LIST_KINDS.items():
        by_key: dict[str, list[Draft]] = defaultdict(list)
        for draft in generate(corpus, random.Random(f"{seed}/{kind}")):
            by_key[draft.key].append(draft)
        for split, keys in shared_out(sorted(by_key), params.other_kinds, random.Random(f"{seed}/{kind}/split")):
            drafts[split] += chain.from_iterable(by_key[key] for key in keys)
    assert corpus.phrasings

    def phrasings(kind: str) -> list[Phrasing]:
        return list(getattr(corpus.phrasings, kind))

    return worded(drafts, phrasings, params.held_out_phrasings, str(seed))


def worded(
    drafts: Mapping[Split, Sequence[Draft]], phrasings: Callable[[str], list[Phrasing]], held_out: float, seed: str
) -> Iterator[Entry]:
    """Drafts in the wordings of their kinds.

    Args:
        held_out: share of validation and test questions in wordings held out for them.
    """
    for split in SPLITS:
        numbers: dict[str, int] = defaultdict(int)
        rng = random.Random(f"{seed}/{split}/phrasing")
        for draft in drafts[split]:
            phrasing = _phrasing(phrasings(draft.kind), split, held_out, rng)
            name = f"{draft.kind}-{draft.difficulty}" if draft.skills else draft.kind  # asked by number of gates
            yield _worded(draft, phrasing, split, f"{name}-{split}-{numbers[name]:05d}")
            numbers[name] += 1


def _phrasing(phrasings: list[Phrasing], split: Split, held_out_share: float, rng: random.Random) -> Phrasing:
    held_out = [phrasing for phrasing in phrasings if phrasing.held_out == split]
    trained = [phrasing for phrasing in phrasings if phrasing.held_out is None]
    use_held_out = held_out and rng.random() < held_out_share
    return rng.choice(held_out if use_held_out else trained)


def _worded(draft: Draft, phrasing: Phrasing, split: Split, identity: str) -> Entry:
    def part(match: re.Match[str]) -> str:
        if match.group(1) not in draft.parts:
            raise UserError(
                f"phrasings.yaml: {draft.kind}: unknown part {match.group()!r}; {nearest(match.group(1), draft.parts)}"
            )
        return draft.parts[match.group(1)]

    return Entry(
        prompt=re.sub(r"\{(\w+)\}", part, phrasing.text),
        answer=draft.answer,
        answer_type=draft.answer_type,
        kind=draft.kind,
        place=identity,
        source=draft.source,
        split=split,
        key=draft.key,
        id=identity,
        difficulty=draft.difficulty,
        reasoning=draft.reasoning,
        held_out_phrasing=phrasing.held_out is not None,
        skills=draft.skills,
        choices=draft.choices,
        accepted=draft.accepted,
        shortcuts=draft.shortcuts,
    )


def value_text(alternatives: Sequence[str]) -> str:
    """A value as an answer says it: the alternatives that apply, joined by 及 in the axis's order."""
    return "及".join(alternatives)


def axis_text(axis: Axis) -> str:
    """An axis as a question names it: by all its alternatives."""
    return "／".join(axis.alternatives)


def source_text(treatise: str, fascicles: Sequence[int | None]) -> str:
    """The treatise with the fascicles that are known."""
    known = sorted({fascicle for fascicle in fascicles if fascicle})
    return treatise + (f"卷{'、'.join(cn2an.an2cn(fascicle) for fascicle in known)}" if known else "")


def gate_values(elements: Elements, kind: str, n: int, rng: random.Random, where: str) -> Iterator[Draft]:
    """An endless stream of distinct (element, ordered n axes), until all are out; none with an axis that leaves the
    element out. Args: where: the key that asks for them, for messages."""
    if n > len(elements.axes):
        raise UserError(f"params/questions.yaml: {where}: there are {len(elements.axes)} axes")
    possible = sum(math.perm(len(elements.table[element]), n) for element in elements.elements)
    seen: set[str] = set()
    while len(seen) < possible:
        element = rng.choice(elements.elements)
        axes = rng.sample(elements.axes, n)
        key = f"{kind}/{element}/" + "/".join(axis.name for axis in axes)
        if key in seen or any(axis.name not in elements.table[element] for axis in axes):
            continue
        seen.add(key)
        yield Draft(
            kind=kind,
            key=key,
            parts={
                "treatise": elements.treatise,
                "element": element,
                "axes": "；".join(axis_text(axis) for axis in axes),
            },
            answer=[value_text(elements.table[element][axis.name]) for axis in axes],
            answer_type="ordered_list",
            reasoning=element,
            source=source_text(elements.treatise, [axis.fascicle for axis in axes]),
            difficulty=n,
            skills=[axis.name for axis in axes],
            choices=[axis.alternatives for axis in axes],
        )


def split_by_count(
    drafts: dict[Split, list[Draft]], stream: Iterator[Draft], counts: Counts, n: int, where: str
) -> None:
    """Take as many as are declared for each split. Raises UserError where the stream has fewer."""
    for split in ("test", "validation", "train"):
        for _ in range(getattr(counts, split)):
            draft = next(stream, None)
            if draft is None:
                wanted = counts.train + counts.validation + counts.test
                raise UserError(
                    f"params/questions.yaml: {where}: {wanted} questions on {n} axes "
                    "asked for, there are fewer distinct ones; ask for fewer questions or more axes"
                )
            drafts[split].append(draft)


def _elements_of_value(corpus: Corpus, rng: random.Random) -> Iterator[Draft]:
    for axis, value, members in _values(corpus):
        yield _about_value(corpus, "elements_of_value", axis, value, members, "set")


def _count_of_value(corpus: Corpus, rng: random.Random) -> Iterator[Draft]:
    for axis, value, members in _values(corpus):
        yield _about_value(corpus, "count_of_value", axis, value, len(members), "number")


def _values(corpus: Corpus) -> Iterator[tuple[Axis, str, list[str]]]:
    """Every (axis, value, elements with exactly this value) of the axes that leave out none: of another it could not be
    said which value is that element's."""
    if corpus.elements:
        for axis in (axis for axis in corpus.elements.axes if not axis.left_out):
            holders: dict[str, list[str]] = defaultdict(list)
            for element in corpus.elements.elements:
                holders[value_text(corpus.elements.table[element][axis.name])].append(element)
            for value, members in holders.items():
                yield axis, value, members


def _about_value(corpus: Corpus, kind: str, axis: Axis, value: str, answer: Answer, answer_type: AnswerType) -> Draft:
    assert corpus.elements
    treatise = corpus.elements.treatise
    return Draft(
        kind=kind,
        key=f"{kind}/{axis.name}/{value}",
        parts={"treatise": treatise, "axis": axis_text(axis), "value": value},
        answer=answer,
        answer_type=answer_type,
        reasoning=value,
        source=source_text(treatise, [axis.fascicle]),
    )


def _about_list(kind: str, entry: NumberedList, answer: Answer, answer_type: AnswerType, **parts: str) -> Draft:
    return Draft(
        kind=kind,
        key=f"{kind}/{entry.id}",
        parts={"treatise": entry.treatise, "list": entry.name, **parts},
        answer=answer,
        answer_type=answer_type,
        reasoning=entry.name,
        source=source_text(entry.treatise, [entry.fascicle]),
    )


def _list_members(corpus: Corpus, rng: random.Random) -> Iterator[Draft]:
    for entry in corpus.lists:
        if entry.ordered:
            draft = _about_list("list_members", entry, entry.members, "ordered_list")
        else:
            draft = _about_list("list_members_unordered", entry, entry.members, "set")
        yield draft.model_copy(update={"accepted": _forms(entry, entry.members)})


def _forms(entry: NumberedList, members: Sequence[str]) -> list[list[str]]:
    """The other forms of each member; nothing where none has any."""
    forms = [entry.accepted(member) for member in members]
    return forms if any(forms) else []


def _list_member(corpus: Corpus, rng: random.Random) -> Iterator[Draft]:
    for entry in filter(lambda entry: entry.ordered, corpus.lists):
        for k, member in enumerate(entry.members, start=1):
            draft = _about_list("list_member", entry, member, "term", k=cn2an.an2cn(k))
            yield draft.model_copy(update={"accepted": _forms(entry, [member])})


def _list_count(corpus: Corpus, rng: random.Random) -> Iterator[Draft]:
    for entry in corpus.lists:
        if not re.search("[一二三四五六七八九十]", entry.name):  # 五蘊 would give its own count away
            yield _about_list("list_count", entry, len(entry.members), "number")


def _list_of_member(corpus: Corpus, rng: random.Random) -> Iterator[Draft]:
    for entry in corpus.lists:
        item = rng.choice(entry.members)
        near = [
            other for other in corpus.lists if other.treatise == entry.treatise and item in corpus.set_apart[other.id]
        ]
        far = [other for other in corpus.lists if other not in near and corpus.surely_without(other, item, entry)]
        if len(near) + len(far) >= OTHER_CHOICES:
            wrong = rng.sample(near, min(OTHER_CHOICES, len(near)))
            choices = [entry, *wrong, *rng.sample(far, OTHER_CHOICES - len(wrong))]
            rng.shuffle(choices)
            names = "；".join(choice.name for choice in choices)
            draft = _about_list("list_of_member", entry, entry.name, "term", item=item, choices=names)
            yield draft.model_copy(update={"shortcuts": _chosen_cheaply(corpus, item, choices)})


def _membership(corpus: Corpus, rng: random.Random) -> Iterator[Draft]:
    """Of every list as many members as names that the treatise sets apart from them, these from its own theme, so that
    neither the list nor its theme gives the answer away; a single one where only another theme has any."""
    for entry in corpus.lists:
        apart = corpus.set_apart[entry.id]
        near = [item for item in apart if corpus.themes[entry.id] in corpus.themes_of(item)]
        each = min(MEMBERSHIPS, len(entry.members), len(near)) or min(1, len(apart))
        others = rng.sample(near or apart, each)
        for answer, names in ((True, rng.sample(entry.members, each)), (False, others)):
            for item in names:
                draft = _about_list("membership", entry, answer, "boolean", item=item)
                yield draft.model_copy(update={"shortcuts": _told_cheaply(corpus, item, entry)})


def _told_cheaply(corpus: Corpus, item: str, entry: NumberedList) -> dict[str, Answer]:
    """What one answers who does not know whether an item is a list's member."""
    return {
        "same theme": corpus.themes[entry.id] in corpus.themes_of(item),
        "shared character": bool(set(item) & set(entry.name)),
    }


def _chosen_cheaply(corpus: Corpus, item: str, choices: Sequence[NumberedList]) -> dict[str, Answer]:
    """What one chooses who does not know which list has an item: the first choice that is as likely."""
    themes = corpus.themes_of(item)
    return {
        "same theme": max(choices, key=lambda choice: corpus.themes[choice.id] in themes).name,
        "shared character": max(choices, key=lambda choice: len(set(item) & set(choice.name))).name,
    }


LIST_KINDS: dict[str, Callable[[Corpus, random.Random], Iterator[Draft]]] = {
    "elements_of_value": _elements_of_value,
    "count_of_value": _count_of_value,
    "list_members": _list_members,
    "list_member": _list_member,
    "list_count": _list_count,
    "list_of_member": _list_of_member,
    "membership": _membership,
}


def _stated_facts(corpus: Corpus, rng: random.Random) -> str:
    assert corpus.elements
    return stated_facts(corpus.elements, rng)


def stated_facts(elements: Elements, rng: random.Random) -> str:
    """What one element is on some of its axes, as a line of plain text."""
    element = rng.choice(elements.elements)
    axes = rng.sample(elements.axes, min(rng.randint(1, 8), len(elements.axes)))
    table = elements.table[element]
    said = [axis for axis in axes if axis.name in table] or [axis for axis in elements.axes if axis.name in table][:1]
    return "".join(f"{element}，{axis_text(axis)}者，{value_text(table[axis.name])}。" for axis in said)


def _stated_list(corpus: Corpus, rng: random.Random) -> str:
    entry = rng.choice(corpus.lists)
    return f"《{entry.treatise}》：{entry.name}者，謂{render(entry.members)}。"

"""The authored corpus (Traditional Chinese): elements under the gates, numbered lists, phrasings.

A corpus is a folder with any of
    elements.yaml      elements, and the axes (諸門) on which each has a value
    lists/*.yaml       numbered lists (法數), members in order, each under its treatise
    apart.yaml         lists that the treatise itself sets apart: where "no" answers and wrong choices come from
    synonyms.yaml      names that are not to be contrasted, so that no "no" could be disputed
    disjoint.yaml      pairs of themes (file names under lists/) that share no dharma: more wrong choices
    phrasings.yaml     how the questions of each kind are worded
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from upaya.corpus.answers import SEPARATORS, is_one_item, normalised, unspeakable
from upaya.declared.validation import Declared, load_yaml
from upaya.errors import UserError, nearest
from upaya.files import is_there

LONGEST_TERM = 1000  # characters
LAST_FASCICLE = 10_000

_PART = re.compile(r"\{(\w+)\}")


def _label(text: str) -> str:
    wrong = unspeakable(text) or (None if is_one_item(SEPARATORS.sub("", text)) else "a tag, outer space, or nothing")
    if wrong or len(text) > LONGEST_TERM:
        raise ValueError(f"this is no name: it holds {wrong or f'{len(text):,} characters'}")
    return text


def _term(text: str) -> str:
    if SEPARATORS.search(_label(text)):
        raise ValueError("this is no term: it holds a separator, and would be read as several")
    return text


def _wording(text: str) -> str:
    if not text.strip():
        raise ValueError("this wording is empty")
    if wrong := unspeakable(text):
        raise ValueError(f"this wording holds {wrong}")
    if re.search("[{}]", _PART.sub("", text)):
        raise ValueError("a brace that marks no part: write {list}, or whatever goes there")
    return text


Label = Annotated[str, AfterValidator(_label)]  # what a question names
Term = Annotated[str, AfterValidator(_term)]  # what stands beside others in an answer
Wording = Annotated[str, AfterValidator(_wording)]  # of a question
Fascicle = Annotated[int, Field(gt=0, le=LAST_FASCICLE)]

REST = "其餘"  # in an axis: the elements that no other line of it names


class Value(Declared):
    """The alternatives of an axis that apply to some elements."""

    of: list[str] = Field(min_length=1)
    is_: list[Term] = Field(min_length=1, alias="is")


class Axis(Declared):
    """One gate (門): ordered alternatives, and for every element those that apply to it.

    Attributes:
        left_out: element → why the gate gives it no value that could not be disputed: it is not asked there.
    """

    name: Label
    fascicle: Fascicle | None = None
    alternatives: list[Term] = Field(min_length=2)
    left_out: dict[str, str] = Field(default_factory=dict)
    values: list[Value] = Field(min_length=1)

    @model_validator(mode="after")
    def values_are_alternatives(self) -> Self:
        for value in self.values:
            for named in value.is_:
                if named not in self.alternatives:
                    raise ValueError(f"{named!r} is none of the alternatives; {nearest(named, self.alternatives)}")
            if value.is_ != [a for a in self.alternatives if a in value.is_]:
                raise ValueError(f"{value.is_} is not in the order of the alternatives {self.alternatives}")
        return self


class Elements(Declared):
    """Elements and the axes on which each of them has exactly one value (a non-empty set of alternatives), but for
    those that an axis leaves out."""

    treatise: Label
    elements: list[Term] = Field(min_length=1)
    groups: dict[str, list[str]] = Field(default_factory=dict)
    axes: list[Axis] = Field(min_length=1)

    @model_validator(mode="after")
    def every_axis_covers_every_element_once(self) -> Self:
        _refuse_repeats("elements", self.elements)
        _refuse_repeats("axes", [axis.name for axis in self.axes])
        for group, members in self.groups.items():
            for member in members:
                if member not in self.elements:
                    raise ValueError(f"groups.{group}: {member!r} is no element; {nearest(member, self.elements)}")
        for axis in self.axes:
            for element in axis.left_out:
                if element not in self.elements:
                    raise ValueError(
                        f"axis {axis.name}: left_out: {element!r} is no element; {nearest(element, self.elements)}"
                    )
            named = [element for value in axis.values for element in self._expanded(axis, value)]
            named += axis.left_out
            _refuse_repeats(f"axis {axis.name}", named)
            missing = [element for element in self.elements if element not in named]
            if missing:
                raise ValueError(f"axis {axis.name} says nothing of {'、'.join(missing)}")
        return self

    def _expanded(self, axis: Axis, value: Value) -> list[str]:
        named = []
        for name in value.of:
            if name == REST:
                others = [part for other in axis.values for part in other.of if part != REST]
                taken = {*axis.left_out, *chain.from_iterable(self.groups.get(part, [part]) for part in others)}
                named += [element for element in self.elements if element not in taken]
            elif name in self.groups:
                named += self.groups[name]
            elif name in self.elements:
                named.append(name)
            else:
                known = [*self.elements, *self.groups, REST]
                raise ValueError(f"axis {axis.name}: {name!r} is no element or group; {nearest(name, known)}")
        return named

    @cached_property
    def table(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """element → axis name → the alternatives that apply; no axis that leaves the element out."""
        rows: dict[str, dict[str, tuple[str, ...]]] = {element: {} for element in self.elements}
        for axis in self.axes:
            for value in axis.values:
                for element in self._expanded(axis, value):
                    rows[element][axis.name] = tuple(value.is_)
        return rows


class NumberedList(Declared):
    """One numbered list (法數) as a treatise gives it. Where the treatise gives no order, it is asked for as a set.

    Attributes:
        shared: the end of members that the treatise itself says once for all of them (身受心法念住): a member that has
            it is accepted without it.
        also: member → other forms of it that are accepted.
    """

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    name: Label
    treatise: Label
    fascicle: Fascicle | None = None
    ordered: bool = True
    members: list[Term] = Field(min_length=2)
    shared: str = ""
    also: dict[str, list[Term]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def every_form_is_of_one_member(self) -> Self:
        for member in self.also:
            if member not in self.members:
                raise ValueError(f"list {self.id}: also: {member!r} is no member; {nearest(member, self.members)}")
        if self.shared and not any(self.accepted(member) for member in self.members):
            raise ValueError(f"list {self.id}: shared: no member ends in {self.shared!r} and has something before it")
        _refuse_repeats(f"list {self.id}", [*self.members, *(form for m in self.members for form in self.accepted(m))])
        return self

    def accepted(self, member: str) -> list[str]:
        """The other forms of a member that are read as right."""
        short = member.removesuffix(self.shared)
        return [short] * (short not in ("", member)) + self.also.get(member, [])

    @property
    def forms(self) -> list[str]:
        """Every name that is read as a member."""
        return [form for member in self.members for form in (member, *self.accepted(member))]


class Phrasing(Declared):
    """A wording of a question kind; `{name}` marks where its parts go. One that is held out for a split appears in no
    other: what is chosen on validation questions can so be held to wordings that training never shows."""

    text: Wording
    held_out: Literal["validation", "test"] | None = None


class Phrasings(Declared):
    element_values: list[Phrasing] = Field(min_length=1)
    elements_of_value: list[Phrasing] = Field(min_length=1)
    count_of_value: list[Phrasing] = Field(min_length=1)
    list_members: list[Phrasing] = Field(min_length=1)
    list_members_unordered: list[Phrasing] = Field(min_length=1)
    list_member: list[Phrasing] = Field(min_length=1)
    list_count: list[Phrasing] = Field(min_length=1)
    list_of_member: list[Phrasing] = Field(min_length=1)
    membership: list[Phrasing] = Field(min_length=1)

    @model_validator(mode="after")
    def every_kind_can_be_asked(self) -> Self:
        for kind in type(self).model_fields:
            need_askable(kind, getattr(self, kind), PARTS[kind])
        return self


PARTS: dict[str, tuple[str, ...]] = {  # of each kind: what a wording of it has to name
    "element_values": ("treatise", "element", "axes"),
    "elements_of_value": ("treatise", "axis", "value"),
    "count_of_value": ("treatise", "axis", "value"),
    "list_members": ("treatise", "list"),
    "list_members_unordered": ("treatise", "list"),
    "list_member": ("treatise", "list", "k"),
    "list_count": ("treatise", "list"),
    "list_of_member": ("treatise", "item", "choices"),
    "membership": ("treatise", "list", "item"),
}


def need_askable(kind: str, phrasings: Sequence[Phrasing], needed: Sequence[str]) -> None:
    """Raises ValueError where a wording leaves out a part without which nothing definite is asked, where one stands
    twice (held out and trained on, say), and where none is left to train with."""
    if all(phrasing.held_out for phrasing in phrasings):
        raise ValueError(f"{kind}: every phrasing is held out, none is left to train with")
    before: dict[str, Phrasing] = {}
    for phrasing in phrasings:
        parts = _PART.findall(phrasing.text)
        for part in needed:
            if part not in parts:
                raise ValueError(f"{kind}: the wording {phrasing.text!r} has no {{{part}}}: what would be asked?")
        same = before.setdefault(normalised(phrasing.text), phrasing)
        if same is not phrasing:
            why = "" if same.held_out == phrasing.held_out else ", once held out: that is shown nowhere else"
            raise ValueError(f"{kind}: the wording {phrasing.text!r} stands twice{why}")


def _each_once(names: list[str]) -> list[str]:
    _refuse_repeats("/".join(names), names)
    return names


Together = Annotated[list[Term], Field(min_length=2), AfterValidator(_each_once)]  # names that a line puts together

FILES = ("elements.yaml", "apart.yaml", "synonyms.yaml", "disjoint.yaml", "phrasings.yaml")
FOLDERS = ("lists", "extracted")


def _need_known_files(folder: Path) -> None:
    """Raises UserError for a file that looks like one of the corpus and would not be read. What else lies in data/,
    questions of one's own and texts, is no business of the corpus."""
    for file in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        if file.suffix not in (".yaml", ".yml", ".json") or file.name.startswith(".") or file.is_dir():
            continue
        inside = file.relative_to(folder)
        if len(inside.parts) == 1:
            if file.name not in FILES:
                raise UserError(f"{file}: no file of a corpus; {nearest(file.stem + '.yaml', FILES)}")
        elif file.suffix == ".yml" or (file.suffix == ".json" and inside.parts[0] == "lists"):
            raise UserError(f"{file}: would not be read; files of a corpus end in .yaml")
        elif file.suffix == ".yaml" and inside.parts[0] not in FOLDERS:
            raise UserError(f"{file}: would not be read; lists lie in {folder / 'lists'}")


class Corpus:
    """Everything a corpus folder declares, checked on load. Raises UserError naming file and key."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder. `dvc repro` brings the corpus here as data.dvc says.")
        self.folder = folder
        _need_known_files(folder)
        elements = folder / "elements.yaml"
        self.elements = load_yaml(elements, Elements) if is_there(elements) else None
        self.lists: list[NumberedList] = []
        self.themes: dict[str, str] = {}  # list id → the file it stands in
        for file in sorted(folder.glob("lists/*.yaml")):
            self._add_lists(file)
        synonyms = folder / "synonyms.yaml"
        self.synonyms = load_yaml(synonyms, list[Together]) if is_there(synonyms) else []
        apart = folder / "apart.yaml"
        self.apart = self._groups(apart, load_yaml(apart, list[Together])) if is_there(apart) else []
        disjoint = folder / "disjoint.yaml"
        self.disjoint = self._pairs(disjoint) if is_there(disjoint) else set()
        phrasings = folder / "phrasings.yaml"
        self.phrasings = load_yaml(phrasings, Phrasings) if self.elements or self.lists else None
        if not (self.elements or self.lists):
            raise UserError(
                f"{folder}: holds neither elements.yaml nor lists/*.yaml; where all questions are of your own, "
                "params/questions.yaml needs no source of type `corpus`"
            )

    def _add_lists(self, file: Path) -> None:
        for entry in load_yaml(file, list[NumberedList]):
            for known in self.lists:
                if known.id == entry.id:
                    raise UserError(f"{file}: list id {entry.id!r} stands twice in the corpus; ids are unique")
                if (known.name, known.treatise) == (entry.name, entry.treatise):
                    raise UserError(f"{file}: {entry.id} and {known.id} are both {entry.name} of {entry.treatise}")
            self.lists.append(entry)
            self.themes[entry.id] = file.stem

    def _pairs(self, file: Path) -> set[frozenset[str]]:
        known, pairs = set(self.themes.values()), set()
        for pair in load_yaml(file, list[Together]):
            for theme in pair:
                if theme not in known:
                    raise UserError(f"{file}: {theme!r} is no theme, a file under lists/; {nearest(theme, known)}")
            if len(pair) != 2 or frozenset(pair) in pairs:
                raise UserError(f"{file}: {pair}: " + ("stands twice" if len(pair) == 2 else "expected two themes"))
            pairs.add(frozenset(pair))
        return pairs

    def _groups(self, file: Path, groups: list[list[str]]) -> list[list[NumberedList]]:
        by_id = {entry.id: entry for entry in self.lists}
        for group in groups:
            for name in group:
                if name not in by_id:
                    raise UserError(f"{file}: {name!r} is the id of no list; {nearest(name, by_id)}")
                if by_id[name].treatise != by_id[group[0]].treatise:
                    raise UserError(f"{file}: {group[0]} and {name} are of two treatises, neither sets them apart")
        return [[by_id[name] for name in group] for group in groups]

    @cached_property
    def set_apart(self) -> dict[str, list[str]]:
        """List id → the names that the treatise itself sets apart from the list's members: another list of a group
        gives them and this list, complete as it is, does not. None that is not to be contrasted with a member, unless a
        list of the group names both."""
        named: dict[str, list[str]] = {entry.id: [] for entry in self.lists}
        for group in self.apart:
            for entry in group:
                named[entry.id] += self._set_apart_in(group, entry)
        return {name: list(dict.fromkeys(items)) for name, items in named.items()}

    def _set_apart_in(self, group: Sequence[NumberedList], entry: NumberedList) -> Iterator[str]:
        for other in group:
            for item in other.members:
                close = {name for line in self.synonyms if item in line for name in line if name in entry.members}
                beside = set(chain.from_iterable(each.members for each in group if item in each.members))
                if close <= beside and not {item, *other.accepted(item)} & set(entry.forms):
                    yield item

    def surely_without(self, entry: NumberedList, item: str, other: NumberedList) -> bool:
        """Whether an expert would say without doubt that `item`, a member of `other`, is none of `entry`'s members.

        The two lists' themes are declared to share no dharma, no synonym of the item is a member, and it shares no
        character with a member or the list's name (定 and 定覺支 are one dharma under two names).
        """
        return (
            frozenset((self.themes[entry.id], self.themes[other.id])) in self.disjoint
            and entry.treatise == other.treatise
            and not self._characters(entry.name, *entry.members) & self._characters(item)
        )

    def themes_of(self, item: str) -> set[str]:
        """The themes of the lists that have a member of this name."""
        return {self.themes[entry.id] for entry in self.lists if item in entry.members}

    @cache  # noqa: B019 - a corpus lives as long as the program
    def _characters(self, *terms: str) -> frozenset[str]:
        """Every character of the terms and their synonyms."""
        return frozenset(
            "".join(name for term in terms for name in (term, *chain(*(g for g in self.synonyms if term in g))))
        )


def _refuse_repeats(where: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: {name} stands twice")

"""`upaya adopt FILE`: somebody's own questions made those of this checkout, in one consistent change of params/."""

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upaya.corpus.answers import LISTS, render
from upaya.corpus.gathering import Gathered, gather
from upaya.corpus.questions import SPLITS, Question
from upaya.corpus.script import Converter
from upaya.corpus.sources.files import file_rows
from upaya.corpus.sources.huggingface import huggingface_rows
from upaya.corpus.sources.rows import Row, RowSource
from upaya.declared.curricula import load_curricula
from upaya.declared.model import load_model_file
from upaya.declared.questions import FileSource, HuggingFaceSource, QuestionParams
from upaya.declared.regimes import RegimesFile
from upaya.declared.validation import Name, load_yaml, validated
from upaya.errors import UserError
from upaya.files import read_json
from upaya.measuring.slope import flat_ones, slopes
from upaya.operating.changing import changed, in_one_line, show, write
from upaya.operating.looking import seen
from upaya.paths import CURRICULA, DATA_POINTER, QUESTION_PARAMS, REGIMES
from upaya.records.pointer import pointer
from upaya.rewards.components import BY_ITEM
from upaya.rewards.regimes import load_regimes
from upaya.terminal import console

TYPES = {".jsonl": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
# What a step nearer to right is, by the type of the answers; of a choice or a yes there is none.
SLOPED = {
    "number": "closeness", "ordered_list": "positions", "set": "positions", "term": "similarity", "text": "similarity",
    "json": "similarity", "math": "similarity",
}  # fmt: skip
SHIPPED = "positions"  # what the shipped regimes give partial credit by, and what is of no use where there is no slope
WINDOW = 30  # steps that hold three measurements on validation questions
ROOM = 16  # tokens; a completion's length is rounded up to a multiple


@dataclass(frozen=True)
class Found:
    """What is adopted. Attributes: at: below the corpus's folder. rows: read from where it is now."""

    source: Path
    at: Path
    declared: dict[str, Any]
    rows: list[Row]


def adopt(what: str, name: str, columns: Mapping[str, str], dry_run: bool) -> None:
    """Look at the data, change params/ accordingly, print what changes and what that leads to.

    Args:
        what: a file, a folder with a dataset.
        columns: `question`, `answer`, `answer_type` as the user knows them better.

    Raises:
        UserError: the data are no questions as they stand, and what to do about it. Nothing is changed then.
    """
    validated(Name, name, "--name")
    found = _located(Path(what), name)
    looked = seen(found.rows, columns)
    for line in looked.said:
        console.print(f"{name}: {line}", markup=False)
    declared = {**found.declared, **looked.declared}
    gathered = _tried(name, declared, found)
    for line in (*_told(gathered.questions), *gathered.said):
        console.print(line, markup=False)
    texts = _changed(name, declared, gathered.questions)
    regimes = _checked(texts)
    show(texts)
    for line in flat_ones(slopes(regimes.plain, gathered.questions), ["lenient"]):
        console.print(line, markup=False)
    for line in _beyond(gathered.questions):
        console.print(line, markup=False)
    _foretell(gathered.questions)
    if dry_run:
        console.print("nothing was changed (--dry-run)")
        return
    if found.source.resolve() != found.at.resolve():
        found.at.parent.mkdir(parents=True, exist_ok=True)
        if found.source.is_dir():
            shutil.copytree(found.source, found.at, dirs_exist_ok=True)
        else:
            shutil.copy(found.source, found.at)
        console.print(f"{found.source} is copied to {found.at}, which DVC watches; `git add` it to keep it")
    write(texts)
    console.print("`make run` builds it; `git checkout params` takes the change of params/ back")


def _located(source: Path, name: str) -> Found:
    """Read what there is, and say where it is to be. Raises UserError."""
    corpus = Path(pointer()["deps"][0]["path"])
    if corpus.is_absolute():
        raise UserError(f"{DATA_POINTER} points at {corpus}, outside this checkout: put {source} there and declare it")
    inside = source.resolve().is_relative_to(corpus.resolve())
    if source.is_dir():
        at = source if inside else corpus / "datasets" / name
        dataset = HuggingFaceSource(type="huggingface", dataset=source.name)
        rows = list(huggingface_rows(name, dataset, source.parent))
        return Found(source, at, {"type": "huggingface", "dataset": _below(at, corpus)}, rows)
    if not source.is_file():
        raise UserError(
            f"{source}: no such file or folder. A dataset of the hub is declared in {QUESTION_PARAMS} with its "
            "revision: docs/own-data.md"
        )
    if source.suffix not in TYPES:
        raise UserError(f"{source}: expected a file that ends in {', '.join(TYPES)}, or a folder with a dataset")
    at = source if inside else corpus / "questions" / source.name
    file = FileSource(type=TYPES[source.suffix], files=source.name)  # type: ignore[arg-type]
    rows = list(file_rows(file, source.parent))
    if not rows:
        raise UserError(f"{source} is empty")
    return Found(source, at, {"type": file.type, "files": _below(at, corpus)}, rows)


def _below(path: Path, corpus: Path) -> str:
    return str(path.resolve().relative_to(corpus.resolve()))


def _tried(name: str, declared: dict[str, Any], found: Found) -> Gathered:
    """The questions that convert will make of it. Raises UserError as convert would."""
    params = validated(
        QuestionParams, {"seed": load_yaml(QUESTION_PARAMS, QuestionParams).seed, "sources": {name: declared}}, name
    )
    source = params.sources[name]
    assert isinstance(source, FileSource | HuggingFaceSource)
    return gather({name: RowSource(name, source, found.source.name, found.rows)}, params, Converter())


def _told(questions: Sequence[Question]) -> Iterator[str]:
    """What they are, by kind, and how far one comes who has learnt nothing."""
    for kind in dict.fromkeys(question.kind for question in questions):
        of = [question for question in questions if question.kind == kind]
        answers = Counter(render(question.answer) for question in of)
        commonest, times = answers.most_common(1)[0]
        lengths = [len(question.prompt) for question in of]
        types = ", ".join(dict.fromkeys(question.answer_type for question in of))
        yield (
            f"{kind}: {len(of)} questions of {min(lengths)} to {max(lengths)} characters; answers: {types}, "
            f"{len(answers)} different ones; always saying the commonest, {commonest[:40]!r}, is right for "
            f"{times / len(of):.1%}"
        )


def _changed(name: str, declared: dict[str, Any], questions: Sequence[Question]) -> dict[Path, str]:
    """The files of params/ as they will be, their comments kept."""
    types = dict.fromkeys(question.answer_type for question in questions)
    components = list(dict.fromkeys(SLOPED[each] for each in types if each in SLOPED))
    kinds = list(dict.fromkeys(question.kind for question in questions))
    return {
        QUESTION_PARAMS: changed(QUESTION_PARAMS, lambda params: params.update(sources={name: _source(declared)})),
        REGIMES: changed(REGIMES, lambda params: _regimes(params["regimes"], components, set(types))),
        CURRICULA: changed(CURRICULA, lambda params: _curricula(params, kinds, questions)),
    }


def _source(declared: Mapping[str, Any]) -> dict[str, Any]:
    return {key: in_one_line(value) if isinstance(value, Mapping) else value for key, value in declared.items()}


def _regimes(regimes: Any, components: Sequence[str], types: set[str]) -> None:
    """Partial credit by what has a slope for these answers, and in the right form alone where an answer is told of as a
    whole; a form that does without alternatives on offer.

    Args:
        types: of the answers.
    """
    for regime in regimes.values():
        parts = regime.get("components", {})
        told_of_items = regime.get("credit") == "item" and types & {*LISTS}
        sloped = [part for part in parts if part in SLOPED.values()]
        if sloped and components and sloped != list(components):
            specs = [parts.pop(part) for part in sloped]
            weight = sum(spec["weight"] for spec in specs) / len(components)
            for component in components:
                parts[component] = in_one_line(specs[0] | {"weight": round(weight, 4)})
            if regime.get("credit") == "item" and not set(components) <= BY_ITEM.keys():
                regime["credit"] = "completion"
                regime.pop("entropy", None)  # beside credit to whole completions it takes the form apart
                told_of_items = False
        if regime.get("punishment") == 0 and not told_of_items and "penalties" not in regime:
            # A slip in the form that came with a good answer would be encouraged with it, and nothing made less likely.
            earned = sum(spec["weight"] for part, spec in parts.items() if part != "format")
            place = list(regime).index("components") + 1
            regime.insert(place, "penalties", in_one_line({"malformed": round(earned, 4)}))
        if "offered" in parts:  # by alternatives that only the corpus's questions offer
            parts.pop("offered")
            parts["format"]["weight"] = 0.99
            parts[next(iter(components), SHIPPED)] = in_one_line({"weight": 0.01})  # right still earns the most


def _curricula(params: Any, kinds: Sequence[str], questions: Sequence[Question]) -> None:
    """Kinds to train and evaluate on, a warm-up on right answers, room for the longest, no arm that asks for others."""
    params["questions"].clear()
    params["questions"]["kinds"] = in_one_line(kinds)
    comment = params.ca.items.get("warmup", [None] * 3)[2]
    if comment:  # its first line says what any warm-up is, the others what the shipped one teaches
        comment.value = comment.value.split("\n")[0] + "\n"
    params["warmup"].pop("questions", None)
    params["evaluation"].pop("also", None)
    params["warmup"].pop("consistent", None)
    params["warmup"]["answers"] = "right"
    longest = max(len(question.gold.encode()) for question in questions)  # a byte is the least that a token is
    if load_curricula(load_regimes()).model == "tiny":
        params["sampling"]["max_new_tokens"] = ROOM * math.ceil((longest + 1) / ROOM)
    validation = sum(question.split == "validation" for question in questions)
    for settings in (params["probe"], params["warmup"]["until"], params["grpo"]["validation"]):
        settings["questions"] = min(settings["questions"], validation)
    policies = params["policies"]
    for settings in policies.values():  # few questions are soon learnt by heart
        if settings.get("until", {}).get("type") == "success_rate":
            settings["until"].update(on="validation", window=WINDOW)
    gone: set[str] = set()
    for policy, settings in policies.items():  # parents stand before their children
        if "questions" in settings or settings["from"] in gone:
            gone.add(policy)
    for policy in gone:
        del policies[policy]
    params["compare"] = in_one_line([arm for arm in params["compare"] if arm not in gone])


def _checked(texts: Mapping[Path, str]) -> RegimesFile:
    """The regimes as they will be. Raises UserError where params/ would not be whole."""
    with tempfile.TemporaryDirectory(prefix="upaya-") as folder:
        files = {path: Path(folder) / path.name for path in texts}
        for path, file in files.items():
            file.write_text(texts[path])
        try:
            load_yaml(files[QUESTION_PARAMS], QuestionParams)
            regimes = load_regimes(files[REGIMES])
            load_curricula(regimes, files[CURRICULA])
        except UserError as error:
            raise UserError(f"params/ as they would be: {str(error).replace(folder, 'params')}") from None
    return regimes


def _beyond(questions: Sequence[Question]) -> Iterator[str]:
    """What the model has no room for, where that can be known: a byte is the least that a token is."""
    model = load_model_file(load_curricula(load_regimes()).model)
    folder = Path(model.path or "")
    config = model.architecture or model.shape or (read_json(folder / "config.json") if model.path else {})
    positions = config.get("max_position_embeddings")
    longest = max(questions, key=lambda question: len(question.prompt.encode()) + len(question.gold.encode()))
    needed = len(longest.prompt.encode()) + len(longest.gold.encode())
    if positions and needed > positions:
        yield (
            f"question {longest.id} and its answer may take {needed} tokens (a byte each at the worst), the model has "
            f"{positions} positions: a stage ends with that said where it is so. `max_position_embeddings`, or shorter "
            "questions"
        )


def _foretell(questions: Sequence[Question]) -> None:
    counts = [f"{sum(question.split == split for question in questions)} to {split}" for split in SPLITS]
    console.print(
        f"`make run` will make {len(questions)} questions ({', '.join(counts)}), warm up on right answers until their "
        "form is right, then lenient, then strict, and evaluate on those to test"
    )

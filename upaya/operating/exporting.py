"""`upaya export questions`: the questions as others read them.

README.md                       the datasheet, with the header by which the `datasets` library finds the files
data/<kind>/<split>.parquet     one row a question
tasks/upaya_<kind>.yaml         a task of lm-evaluation-harness on the test questions
tasks/judging.py                what these tasks call an answer right by
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cn2an
import yaml
from jinja2 import Environment, StrictUndefined

from upaya.corpus.answers import render
from upaya.corpus.matching import NO, YES
from upaya.corpus.questions import SPLITS, Question, Split, read
from upaya.declared.questions import CorpusSource, QuestionParams, TextSource
from upaya.declared.validation import load_yaml
from upaya.errors import UserError
from upaya.files import read_text, replacing
from upaya.operating import judging
from upaya.paths import QUESTION_PARAMS, QUESTIONS
from upaya.records.baselines import Accuracies, accuracies_of
from upaya.terminal import console

ByKind = dict[str, dict[Split, list[Question]]]

COLUMNS = {
    "id": "unique in the data set",
    "kind": "what is asked for; also the name of the configuration",
    "difficulty": "of element_values the number of gates asked at once; else 1",
    "prompt": "the question in Simplified characters, converted by OpenCC",
    "answer": "the right answer, its items joined by 、",
    "answer_type": "how an answer is compared: ordered_list, set, term, number, boolean, …",
    "items": "the right answer's items; one of what is no list",
    "accepted": "for each item, other forms that are right too",
    "prompt_traditional": "the question as authored",
    "answer_traditional": "the right answer as authored",
    "source": "treatise and fascicle, or where else it comes from",
    "key": "the fact combination: all questions with one key are in one split",
    "held_out_phrasing": "whether its wording is one that no training question has",
}
ASKED = {  # what a model is told of the form; without the corpus nobody knows in which language questions are
    True: "{{prompt}}\n请把最后的答案写在 <answer> 与 </answer> 之间。",
    False: "{{prompt}}\nWrite your final answer between <answer> and </answer>.",
}
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def export_questions(to: Path, licence: str) -> None:
    """Write the data set into a new folder, whole or not at all. Raises UserError where the folder is there already,
    where no questions were made yet, and where two kinds would have one name."""
    if to.exists() or to.is_symlink():
        raise UserError(f"{to} exists already, and nothing is overwritten: name a folder that does not exist yet")
    accuracies = accuracies_of(QUESTIONS)
    by_kind: ByKind = defaultdict(lambda: defaultdict(list))
    for split in SPLITS:
        for question in read(QUESTIONS, split):
            by_kind[question.kind][split].append(question)
    names = _names(by_kind)
    params = load_yaml(QUESTION_PARAMS, QuestionParams)
    authored = any(isinstance(source, CorpusSource) for source in params.sources.values())
    with replacing(to, within=to.parent) as partial:
        for kind, splits in by_kind.items():
            for split, questions in splits.items():
                _write_rows(partial / "data" / names[kind] / f"{split}.parquet", questions)
            if splits["test"]:
                _write(partial / "tasks" / f"upaya_{names[kind]}.yaml", _task(names[kind], authored))
        _write(partial / "tasks" / "judging.py", read_text(Path(judging.__file__)))
        _write(partial / "README.md", _card(by_kind, names, params, authored, accuracies, licence))
    total = sum(len(questions) for splits in by_kind.values() for questions in splits.values())
    console.print(f"export: {total} questions of {len(by_kind)} kinds in {to}; what they are says {to / 'README.md'}")


def _names(kinds: Mapping[str, Any]) -> dict[str, str]:
    """Kind → its name as a folder's and a configuration's."""
    names = {kind: re.sub(r"[^\w-]", "-", kind) for kind in sorted(kinds)}
    for name, count in Counter(names.values()).items():
        if count > 1:
            both = [kind for kind in names if names[kind] == name]
            raise UserError(f"the kinds {', '.join(map(repr, both))} would all be called {name!r}: rename one")
    return names


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# --- rows -------------------------------------------------------------------------------------------------------------


def _write_rows(path: Path, questions: Sequence[Question]) -> None:
    """Parquet, which says of what type an empty list is."""
    import pyarrow as pa
    from pyarrow import parquet

    texts = pa.list_(pa.string())
    types = {
        "difficulty": pa.int64(), "items": texts, "accepted": pa.list_(texts), "held_out_phrasing": pa.bool_(),
    }  # fmt: skip
    schema = pa.schema([(column, types.get(column, pa.string())) for column in COLUMNS])
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist([row(question) for question in questions], schema), path)


def row(question: Question) -> dict[str, Any]:
    """A question as a row of the data set: the columns of COLUMNS."""
    items = question.answer if isinstance(question.answer, list) else [render(question.answer)]
    values: dict[str, Any] = {column: getattr(question, column, None) for column in COLUMNS}
    return values | {
        "answer": render(question.answer),
        "answer_traditional": render(question.answer_traditional),
        "items": items,
        "accepted": question.accepted or [_other_words(question) for _ in items],
    }


def _other_words(question: Question) -> list[str]:
    """How else a yes, a no or a whole number is written."""
    if isinstance(question.answer, bool):
        return sorted((YES if question.answer else NO) - {render(question.answer)})
    if isinstance(question.answer, int) and 0 <= question.answer < 10_000:
        return [cn2an.an2cn(question.answer)]
    return []


# --- tasks ------------------------------------------------------------------------------------------------------------


def _task(name: str, authored: bool) -> str:
    """A task of lm-evaluation-harness (its docs/task_guide.md), without examples before the question."""
    declared = {
        "task": f"upaya_{name}",
        "tag": "upaya",
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": {"test": f"data/{name}/test.parquet"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": ASKED[authored],
        "doc_to_target": "{{answer}}",
        "num_fewshot": 0,
        "generation_kwargs": {"until": ["</answer>"], "do_sample": False, "temperature": 0.0, "max_gen_toks": 1024},
        "filter_list": [
            {
                "name": "answer",
                "filter": [
                    # What is generated ends before the closing tag, for that is where it is told to stop.
                    {"function": "regex", "regex_pattern": r"(?s)<answer>\s*(.*?)\s*(?:</answer>|\Z)"},
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
    text = yaml.safe_dump(declared, allow_unicode=True, sort_keys=False)
    return f"# From the data set's own folder: lm_eval --include_path tasks --tasks upaya …\n{text}" + (
        "process_results: !function judging.process_results\n"
    )


# --- the datasheet ----------------------------------------------------------------------------------------------------


def _card(
    by_kind: ByKind,
    names: Mapping[str, str],
    params: QuestionParams,
    authored: bool,
    accuracies: Accuracies,
    licence: str,
) -> str:
    """datasheet.md, filled in."""
    sources = {name: source for name, source in params.sources.items() if not isinstance(source, TextSource)}
    rules = list(dict.fromkeys(rule for of_group in accuracies.values() for rule in of_group))
    header = yaml.safe_dump(_header(by_kind, names, authored, licence), allow_unicode=True, sort_keys=False)
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(read_text(Path(__file__).with_name("datasheet.md"))).render(
        header=header,
        authored=authored,
        splits=SPLITS,
        counts=[[kind, *(len(by_kind[kind][split]) for split in SPLITS)] for kind in names],
        columns=COLUMNS,
        sources=sources,
        rules=rules,
        accuracies=[
            [group, *(f"{of_group[rule]:.1%}" if rule in of_group else "" for rule in rules)]
            for group, of_group in accuracies.items()
        ],
        licence=licence,
        others=[name for name, source in sources.items() if not isinstance(source, CorpusSource)],
        names=list(names.values()),
    )


def _header(by_kind: ByKind, names: Mapping[str, str], authored: bool, licence: str) -> dict[str, Any]:
    total = sum(len(questions) for splits in by_kind.values() for questions in splits.values())
    size = next((size for below, size in SIZES.items() if total < below), "1M<n<10M")
    whole = {"config_name": "all", "default": True, "data_files": [
        {"split": split, "path": f"data/*/{split}.parquet"} for split in SPLITS
    ]}  # fmt: skip
    each = [
        {"config_name": name, "data_files": [
            {"split": split, "path": f"data/{name}/{split}.parquet"} for split in SPLITS if by_kind[kind][split]
        ]}
        for kind, name in names.items()
    ]  # fmt: skip
    header: dict[str, Any] = {
        "pretty_name": "Abhidharma questions" if authored else "Questions",
        "license": licence,
        "task_categories": ["question-answering"],
        "size_categories": [size],
        "configs": [whole, *each],
    }
    return {"language": ["zh"], **header} if authored else header

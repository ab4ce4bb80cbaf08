"""Questions of a user's own: files and datasets as entries, split, and held against each other."""

import csv
import json
import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.reasoning_gym import score
from upaya.corpus.answers import parse
from upaya.corpus.gathering import Gathered, gather
from upaya.corpus.questions import SPLITS, Question
from upaya.corpus.script import Converter
from upaya.corpus.sources.entry import Entry
from upaya.corpus.sources.opened import opened
from upaya.corpus.sources.rows import Row, as_split, entry, extracted, typed
from upaya.corpus.splitting import split_of_each
from upaya.declared.questions import After, FileSource, QuestionParams, Shares
from upaya.declared.validation import validated
from upaya.errors import UserError

ROOT = Path(__file__).parents[1]
CONVERTER = Converter(ROOT / "params/opencc.json")
SHARES = Shares(train=0.8, validation=0.1, test=0.1)


def gathered(data: Path, sources: dict[str, Any], seed: int = 1) -> Gathered:
    params = validated(QuestionParams, {"seed": seed, "sources": sources}, "params/questions.yaml")
    opened_ones = {name: opened(name, source, data, seed) for name, source in params.sources.items()}
    return gather(opened_ones, params, CONVERTER)


def written(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows in a file, as its ending says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif file.suffix == ".csv":
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    return file


SUMS = [{"question": f"{a} + {b} = ?", "result": a + b} for a in range(20) for b in range(10)]
OF_SUMS = {"answer_type": "number", "fields": {"question": "question", "answer": "result"}}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "saved to disk", "a folder of files"])
def test_the_same_rows_make_the_same_questions_whatever_they_stand_in(tmp_path: Path, kind: str) -> None:
    if kind in ("jsonl", "csv", "parquet"):
        written(tmp_path / f"own/sums.{kind}", SUMS)
        found = gathered(tmp_path, {"sums": {"type": kind, "files": "own/*", **OF_SUMS}})
    else:
        if kind == "saved to disk":
            datasets.Dataset.from_list(SUMS).save_to_disk(str(tmp_path / "own"))
        else:
            written(tmp_path / "own/train.parquet", SUMS)
        found = gathered(tmp_path, {"sums": {"type": "huggingface", "dataset": "own", **OF_SUMS}})
    assert {(q.prompt, q.answer) for q in found.questions} == {(row["question"], row["result"]) for row in SUMS}
    counts = Counter(question.split for question in found.questions)
    assert counts == {"train": 160, "validation": 20, "test": 20}
    assert {question.kind for question in found.questions} == {"sums"}
    assert set(found.text) == {question.prompt for question in found.questions if question.split == "train"}


def test_a_split_does_not_depend_on_what_stands_beside_it_and_does_on_the_seed(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", SUMS)
    written(tmp_path / "b.jsonl", [{"prompt": f"{n} legs?", "answer": n} for n in range(99)])
    a, b = {"type": "jsonl", "files": "a.jsonl", **OF_SUMS}, {"type": "jsonl", "files": "b.jsonl"}

    def splits(sources: dict[str, Any], seed: int = 1) -> dict[str, str]:
        return {q.prompt: q.split for q in gathered(tmp_path, sources, seed).questions if q.kind == "a"}

    alone = splits({"a": a})
    assert splits({"b": b, "a": a}) == alone and splits({"a": a}, seed=2) != alone


def test_columns_are_named_and_what_is_not_read_is_said(tmp_path: Path) -> None:
    rows = [
        {"ctx": f"There are {n} frogs.", "q": {"text": "How many?"}, "a": f"so {n} #### {n}", "lvl": n % 3, "extra": 1}
        for n in range(100)
    ]
    written(tmp_path / "frogs.jsonl", rows)
    fields = {"question": "{ctx}\n{q.text}", "answer": "a", "difficulty": "lvl"}
    source = {"type": "jsonl", "files": "frogs.jsonl", "fields": fields, "answer_type": "number"}
    found = gathered(tmp_path, {"frogs": {**source, "answer_in": {"after": "####"}}})
    seven = next(question for question in found.questions if question.prompt.startswith("There are 7 "))
    assert (seven.prompt, seven.answer, seven.difficulty) == ("There are 7 frogs.\nHow many?", 7, 1)
    assert "frogs: not read: extra" in found.said


@pytest.mark.parametrize("answer", ["C", "c", 2, "2", "red"])
def test_a_choice_is_a_letter_however_the_data_name_it(answer: object) -> None:
    source = {"type": "jsonl", "files": "x", "fields": {"choices": "options"}}
    row = Row({"prompt": "Which?", "options": ["blue", "green", "red"], "answer": answer}, "here")
    asked = entry(row, "mine", validated(FileSource, source, "here"), "x")
    assert asked.prompt == "Which?\nA. blue\nB. green\nC. red" and (asked.answer, asked.answer_type) == ("C", "choice")


def test_a_question_that_is_asked_of_many_choices_is_as_many_questions(tmp_path: Path) -> None:
    rows = "".join(f"Which is the largest?,{n},{200 - n},{'AB'[n < 100]}\n" for n in range(50, 151) if n != 100)
    (tmp_path / "c.csv").write_text(f"prompt,a,b,answer\n{rows}")
    made = gathered(tmp_path, {"c": {"type": "csv", "files": "c.csv", "fields": {"choices": ["a", "b"]}}})
    assert Counter(question.split for question in made.questions) == {"train": 80, "validation": 10, "test": 10}


def test_a_question_with_its_choices_in_another_order_is_the_same_question(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{n}?", "a": ("x", str(n))[letter == "B"], "b": (str(n), "x")[letter == "B"], "answer": letter}
        | {"split": split}
        for n in range(9)
        for letter, split in (("A", "train"), ("B", "test" if n == 5 else "train"))
    ]
    written(tmp_path / "c.csv", rows)
    with pytest.raises(UserError, match=r"c\.csv, line 13: this question is in the test split, and .*line 12 asks it"):
        gathered(tmp_path, {"c": {"type": "csv", "files": "c.csv", "fields": {"choices": ["a", "b"]}}})


@pytest.mark.parametrize(
    ("text", "where", "answer"),
    [
        ("  4 ", "whole", "4"),
        (r"so $x=2$, \boxed{1} no, \boxed{\frac{1}{2}}.", "boxed", r"\frac{1}{2}"),
        ("a #### 1 #### 72", After(after="####"), "72"),
    ],
)
def test_the_answer_is_found_in_its_text(text: str, where: After | str, answer: str) -> None:
    assert extracted(text, where, "here") == answer


@pytest.mark.parametrize(("text", "where"), [("4", "boxed"), (r"\boxed{4", "boxed"), ("4 ####", After(after="####"))])
def test_an_answer_that_is_not_where_it_is_said_to_be_is_refused(text: str, where: After | str) -> None:
    with pytest.raises(UserError, match="here: the answer has no"):
        extracted(text, where, "here")


@pytest.mark.parametrize(
    ("value", "answer_type", "answer"),
    [
        ("4", "number", 4), (4, "number", 4), ("十", "number", 10), (True, "boolean", True), ("yes", "boolean", True),
        ("a, b；c", "set", ["a", "b", "c"]), (["a", "b"], "ordered_list", ["a", "b"]), (5, "term", "5"),
    ],
)  # fmt: skip
def test_an_answer_is_read_as_its_type(value: object, answer_type: Any, answer: object) -> None:
    found = typed(value, answer_type, "here")
    assert found == answer and type(found) is type(answer)


@pytest.mark.parametrize(("value", "answer_type"), [("four", "number"), (True, "number"), ("maybe", "boolean"),
                                                    ("a,,b", "set"), ([1], "term")])  # fmt: skip
def test_what_is_no_answer_of_its_type_is_refused(value: object, answer_type: Any) -> None:
    with pytest.raises(UserError, match=r"here: the answer .* is no "):
        typed(value, answer_type, "here")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"type": "csw", "files": "x"}, "did you mean 'csv'"),
        ({"type": "csv", "files": "../x.csv"}, "expected a path below data/"),
        ({"type": "csv", "files": "/x.csv"}, "expected a path below data/"),
        ({"type": "csv", "files": "x.csv"}, "no such file"),
        ({"type": "jsonl", "files": "s.jsonl"}, "no column 'prompt' (`fields: {question: …}`)"),
        ({"type": "jsonl", "files": "s.jsonl", "fields": {"question": "qestion"}}, "did you mean 'question'?"),
        ({"type": "jsonl", "files": "s.jsonl", **OF_SUMS, "fields": {"question": "question"}}, "no column 'answer'"),
        ({"type": "jsonl", "files": "s.jsonl", **OF_SUMS, "answer_type": "numbr"}, "did you mean 'number'?"),
        ({"type": "jsonl", "files": "s.jsonl", **OF_SUMS, "answer_tipe": "x"}, "did you mean 'answer_type'?"),
        ({"type": "parquet", "files": "s.jsonl", **OF_SUMS}, "not a readable parquet file"),
        ({"type": "huggingface", "dataset": "owner/name", **OF_SUMS}, "name the `revision` too"),
        ({"type": "huggingface", "dataset": "owner/name", "revision": "main"}, "mine.revision'"),
        ({"type": "huggingface", "dataset": "hf", "splits": {"test": "tset"}, **OF_SUMS}, "no split 'tset'"),
        ({"type": "reasoning_gym", "dataset": "chain_sum", "version": "0.0.1", "size": 9}, "reasoning-gym"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_answered_in_words(tmp_path: Path, source: dict[str, Any], message: str) -> None:
    written(tmp_path / "s.jsonl", SUMS)
    written(tmp_path / "hf/train.parquet", SUMS)
    with pytest.raises(UserError) as refused:
        gathered(tmp_path, {"mine": source})
    assert message in str(refused.value)


def test_a_broken_csv_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('prompt,answer\n"a",1\nb,2,3\n')
    source = {"type": "csv", "files": "x.csv", "answer_type": "number"}
    with pytest.raises(UserError, match=r"x\.csv, line 3: other than 2 columns"):
        gathered(tmp_path, {"mine": source})
    (tmp_path / "x.csv").write_text("\ufeffprompt;answer\n" + "".join(f"{n}, say;{n}\n" for n in range(30)))
    assert len(gathered(tmp_path, {"mine": source}).questions) == 30  # as a spreadsheet saves it in Europe


ASKED = [{"prompt": f"問{n}？", "answer": n} for n in range(60)]
MINE = {"type": "jsonl", "files": "mine.jsonl"}


def test_what_is_tested_in_one_source_is_not_trained_on_in_another(tmp_path: Path) -> None:
    """Whatever the case, the width and the script that it is written in."""
    written(tmp_path / "tested.jsonl", [{**row, "split": "test"} for row in ASKED[:20]])
    written(
        tmp_path / "mine.jsonl",
        [{**row, "prompt": row["prompt"].replace("問", "问 ").replace("？", "?")} for row in ASKED],
    )
    tested = {"type": "jsonl", "files": "tested.jsonl"}
    found = gathered(tmp_path, {"tested": tested, "mine": MINE})
    assert len(found.questions) == 60 and "mine: questions that stand there twice are taken once: 20" in found.said
    assert not {q.key for q in found.questions if q.split == "train"} & {
        q.key for q in found.questions if q.kind == "tested"
    }
    of = ["train"] * 40 + ["validation"] * 10 + ["test"] * 10
    written(tmp_path / "mine.jsonl", [{**row, "split": split} for row, split in zip(ASKED, of, strict=True)])
    with pytest.raises(
        UserError, match=r"mine\.jsonl, line 1: this question is in the train split, and .*tested\.jsonl"
    ):
        gathered(tmp_path, {"tested": tested, "mine": MINE})


def test_two_answers_to_one_question_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "mine.jsonl", [*ASKED, {**ASKED[3], "answer": 4}])
    with pytest.raises(
        UserError, match=r"line 61: the answer is 4, and .*line 4 asks the same with the answer 3: which"
    ):
        gathered(tmp_path, {"mine": MINE})


def test_answers_that_say_nothing_are_refused_or_said(tmp_path: Path) -> None:
    written(tmp_path / "mine.jsonl", [{**row, "answer": True} for row in ASKED])
    with pytest.raises(UserError, match="kind 'mine': all 60 answers are '是': there is nothing to learn"):
        gathered(tmp_path, {"mine": MINE})
    written(tmp_path / "mine.jsonl", [{**row, "answer": row["answer"] % 4 > 0} for row in ASKED])
    assert "kind 'mine': '是' is right for 75% of the questions" in gathered(tmp_path, {"mine": MINE}).said


def test_few_questions_are_said_and_an_empty_split_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "mine.jsonl", ASKED[:20])
    assert [said for said in gathered(tmp_path, {"mine": MINE}).said if said.startswith("train: 16 questions are few")]
    written(tmp_path / "mine.jsonl", ASKED[:2])
    with pytest.raises(UserError, match="the validation split is empty"):
        gathered(tmp_path, {"mine": MINE})


def test_an_answer_that_is_not_read_back_as_it_was_written_is_refused(tmp_path: Path) -> None:
    for answer in ("</answer>", "<think>"):
        written(tmp_path / "mine.jsonl", [*ASKED, {"prompt": "?", "answer": answer, "answer_type": "term"}])
        with pytest.raises(UserError, match=r"line 61: the answer .* is read back as"):
            gathered(tmp_path, {"mine": MINE})


def test_names_of_splits_that_others_use_are_ours() -> None:
    assert [as_split(name, "") for name in ("Train", "dev", "val", "validation", "test")] == [
        "train", "validation", "validation", "validation", "test",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"here: no split 'tets'; did you mean 'test'\?"):
        as_split("tets", "here")


def entries(splits: list[Any], keys: list[str]) -> list[Entry]:
    return [
        Entry(prompt=key, answer=1, answer_type="number", kind="k", place="p", source="s", split=split, key=key)
        for split, key in zip(splits, keys, strict=True)
    ]


@given(
    st.lists(st.tuples(st.sampled_from([None, *SPLITS]), st.integers(0, 30)), min_size=1),
    st.dictionaries(st.integers(0, 30).map(str), st.sampled_from(SPLITS)),
)
def test_one_key_is_in_one_split_and_a_split_of_its_own_is_kept(
    given_ones: list[tuple[Any, int]], fixed: dict[str, Any]
) -> None:
    own = {str(number): split for split, number in given_ones if split}
    keys = [str(number) for _, number in given_ones]
    of = entries([own.get(key) for key in keys], keys)
    found = split_of_each(of, keys, fixed, SHARES, random.Random(1))
    by_key = {key: {split for other, split in zip(keys, found, strict=True) if other == key} for key in keys}
    assert all(len(splits) == 1 for splits in by_key.values())
    if set(own.values()) == set(SPLITS):
        assert all(by_key[key] == {split} for key, split in own.items())
    assert all(by_key[key] == {fixed[key]} for key in keys if key not in own and key in fixed)


def test_a_split_that_a_source_lacks_is_taken_from_its_training_questions() -> None:
    keys = [str(number) for number in range(110)]
    found = Counter(split_of_each(entries(["train"] * 90 + ["test"] * 20, keys), keys, {}, SHARES, random.Random(1)))
    assert found == {"train": 80, "validation": 10, "test": 20}


def test_reasoning_gym_is_read_at_the_version_that_is_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its interface, without it: it is optional, and not installed here."""

    class Sums(list[dict[str, Any]]):
        def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
            return 1.0 if answer == entry["answer"] else 0.5

    def create_dataset(name: str, size: int, seed: int, **config: object) -> Sums:
        if name != "chain_sum":
            raise ValueError(f"Dataset '{name}' not registered")
        return Sums({"question": f"{seed} + {n} =", "answer": str(seed + n), "metadata": config} for n in range(size))

    library = ModuleType("reasoning_gym")
    library.create_dataset = create_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "reasoning_gym", library)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1.25")
    source = {"type": "reasoning_gym", "dataset": "chain_sum", "version": "0.1.25", "size": 50, "seed": 3,
              "answer_type": "number"}  # fmt: skip
    questions = gathered(tmp_path, {"gym": source}).questions
    assert len(questions) == 50 and next(q for q in questions if q.prompt == "3 + 4 =").answer == 7
    declared = tmp_path / "params/questions.yaml"
    declared.parent.mkdir()
    declared.write_text(yaml.safe_dump({"seed": 1, "sources": {"gym": source}}))
    monkeypatch.chdir(tmp_path)
    asked = next(question for question in questions if question.answer == 7)
    assert score(parse("<think></think><answer>7</answer>"), asked) == 1
    assert score(parse("<think></think><answer>8</answer>"), asked) == 0.5 and score(parse("8"), asked) == 0
    with pytest.raises(UserError, match="makes no dataset 'chain_sun'"):
        gathered(tmp_path, {"gym": {**source, "dataset": "chain_sun"}})
    with pytest.raises(UserError, match=r"version 0\.1\.24 of reasoning-gym is declared, 0\.1\.25 is here"):
        gathered(tmp_path, {"gym": {**source, "version": "0.1.24"}})


def test_what_is_as_written_is_not_converted(tmp_path: Path) -> None:
    written(tmp_path / "mine.jsonl", ASKED)
    converted, kept = (
        {question.prompt[0] for question in gathered(tmp_path, {"mine": {**MINE, **more}}).questions}
        for more in ({}, {"script": "as written"})
    )
    assert (converted, kept) == ({"问"}, {"問"})


def test_questions_are_what_a_stage_reads(tmp_path: Path) -> None:
    written(tmp_path / "mine.jsonl", ASKED)
    for question in gathered(tmp_path, {"mine": MINE}).questions:
        assert Question.model_validate(question.model_dump()) == question

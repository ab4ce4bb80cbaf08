"""A corpus and questions that could not be asked, read back or kept apart: refused with file and key, before anything
is made of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from upaya.corpus.authored import PARTS, Corpus
from upaya.corpus.gathering import LONGEST, Gathered, gather
from upaya.corpus.script import Converter
from upaya.corpus.sources.opened import opened
from upaya.declared.questions import QuestionParams
from upaya.declared.validation import validated
from upaya.errors import UserError

WORDINGS = {kind: [{"text": "".join(f"{{{part}}}" for part in parts) + "？"}] for kind, parts in PARTS.items()}
LISTS = {
    "a": [{"id": "a", "name": "四念住", "treatise": "俱舍論", "members": ["身念住", "受念住"]}],
    "b": [{"id": "b", "name": "三界", "treatise": "俱舍論", "members": ["欲界", "色界"]}],
}
ELEMENTS = {
    "treatise": "俱舍論",
    "elements": ["眼界", "法界"],
    "axes": [{"name": "三性", "alternatives": ["善", "惡"], "values": [{"of": ["眼界", "法界"], "is": ["善"]}]}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lists").mkdir()
    for name, lists in LISTS.items():
        write(tmp_path / f"lists/{name}.yaml", lists)
    write(tmp_path / "phrasings.yaml", WORDINGS)
    write(tmp_path / "elements.yaml", ELEMENTS)
    Corpus(tmp_path)
    return tmp_path


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")  # JSON is YAML


NO_TERMS = ["", "  ", " 身", "身\n", "身、受", "a,b", "</answer>", "<think>", "<|end|>", "<s>", "a\0b", "\x1b[2J", "。",
            "\u202eabc", "字" * 1001]  # fmt: skip


@pytest.mark.parametrize("term", NO_TERMS, ids=repr)
@pytest.mark.parametrize("where", ["member", "form", "alternative", "element", "synonym"])
def test_what_stands_in_an_answer_is_read_as_one_term(folder: Path, where: str, term: str) -> None:
    entry, axis = LISTS["a"][0], ELEMENTS["axes"][0]  # type: ignore[index]
    file, value = {
        "member": ("lists/a.yaml", [{**entry, "members": ["身念住", term]}]),
        "form": ("lists/a.yaml", [{**entry, "also": {"身念住": [term]}}]),
        "alternative": ("elements.yaml", {**ELEMENTS, "axes": [{**axis, "alternatives": ["善", "惡", term]}]}),
        "element": ("elements.yaml", {**ELEMENTS, "elements": ["眼界", "法界", term]}),
        "synonym": ("synonyms.yaml", [["身", term]]),
    }[where]
    write(folder / file, value)
    with pytest.raises(UserError, match=rf"{file}: key '.*this is no (name|term): it holds"):
        Corpus(folder)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("list_members", "", "this wording is empty"),
        ("list_members", "何？", "has no {treatise}: what would be asked"),
        ("list_members", "{treatise}？", "has no {list}: what would be asked"),
        ("element_values", "{treatise}{element}", "has no {axes}: what would be asked"),
        ("list_members", "{treatise}{list", "a brace that marks no part"),
        ("list_members", "{treatise}{list}}", "a brace that marks no part"),
        ("list_members", "{treatise}{list!r}", "a brace that marks no part"),
        ("list_members", "{treatise}{list}<|end|>", "a mark of tokenizers"),
        ("list_members", "{treatise}{list}\0", r"the character U\+0000"),
    ],
)
def test_a_wording_asks_something_definite(folder: Path, kind: str, text: str, message: str) -> None:
    write(folder / "phrasings.yaml", WORDINGS | {kind: [{"text": text}]})
    with pytest.raises(UserError, match=f"phrasings.yaml: .*{message}"):
        Corpus(folder)


@pytest.mark.parametrize("space", ["", " "])
def test_a_wording_is_not_both_trained_and_held_out(folder: Path, space: str) -> None:
    text = WORDINGS["list_count"][0]["text"]
    write(folder / "phrasings.yaml", WORDINGS | {
        "list_count": [{"text": text}, {"text": f"{text}{space}", "held_out": "test"}]
    })  # fmt: skip
    with pytest.raises(UserError, match=r"phrasings.yaml: list_count: the wording .* stands twice, once held out"):
        Corpus(folder)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("element.yaml", r"no file of a corpus; did you mean 'elements\.yaml'"),
        ("phrasings.yml", r"no file of a corpus; did you mean 'phrasings\.yaml'"),
        ("x.json", "no file of a corpus"),
        ("lists/c.yml", "would not be read; files of a corpus end in .yaml"),
        ("lists/c.json", "would not be read; files of a corpus end in .yaml"),
        ("list/c.yaml", "would not be read; lists lie in .*lists"),
    ],
)
def test_a_file_that_would_not_be_read_is_named(folder: Path, file: str, message: str) -> None:
    write(folder / file, [])
    with pytest.raises(UserError, match=f"{file}: {message}"):
        Corpus(folder)


def test_what_is_no_file_of_the_corpus_may_lie_beside_it(folder: Path) -> None:
    for file in ("questions/mine.csv", "mine.jsonl", "texts/T/manifest.json", "extracted/T-x.yaml", "README.md"):
        write(folder / file, [])
    assert len(Corpus(folder).lists) == 2


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([["a", "c"]], "'c' is no theme, a file under lists/; known: a, b"),
        ([["a", "b"], ["b", "a"]], "stands twice"),
        ([["a", "a"]], "a stands twice"),
        ([["a"]], "at least 2 items"),
        ([["a", "b", "a"]], "stands twice"),
        ("a", "expected a list, this is 'a'"),
        (None, "expected a list, this is empty"),
    ],
)
def test_disjoint_themes_are_pairs_of_known_ones(folder: Path, pairs: object, message: str) -> None:
    write(folder / "disjoint.yaml", pairs)
    with pytest.raises(UserError, match=f"disjoint.yaml: .*{message}"):
        Corpus(folder)


# --- questions of one's own -------------------------------------------------------------------------------------------

GOOD = {"prompt": "五蘊有幾？", "answer": 5, "answer_type": "number", "split": "train"}


def gathered(folder: Path, rows: list[dict[str, Any]], more: list[dict[str, Any]], script: str) -> Gathered:
    sources = {"beside": "traditional", "own": script}
    for name, lines in (("own", rows), ("beside", more)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    declared = {name: {"type": "jsonl", "files": f"{name}.jsonl", "script": script} for name, script in sources.items()}
    params = validated(QuestionParams, {"seed": 1, "sources": declared}, "params/questions.yaml")
    return gather({n: opened(n, s, folder, 1) for n, s in params.sources.items()}, params, Converter())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": ""}, "has no answer"),
        ({"answer": "  ", "answer_type": "text"}, "it has a tag, a separator or nothing in it"),
        ({"answer": "</answer>", "answer_type": "text"}, "it has a tag, a separator or nothing in it"),
        ({"answer": ["五、蘊", "界"], "answer_type": "set"}, "it has a tag, a separator or nothing in it"),
        ({"answer": "五<|end|>", "answer_type": "term"}, "the answer holds '<|end|>', a mark of tokenizers"),
        ({"answer": "五\0蘊", "answer_type": "term"}, "the answer holds the character U+0000"),
        ({"prompt": "五\0蘊有幾？"}, "the question holds the character U+0000"),
        ({"prompt": "\x1b[2J"}, "the question holds the character U+001B"),
        ({"prompt": "五蘊有幾？<|im_end|>"}, "the question holds '<|im_end|>', a mark of tokenizers"),
        ({"prompt": " \n"}, "the question is empty"),
        ({"prompt": "蘊" * 1_000_000}, f"the question has 1,000,000 characters; at most {LONGEST:,} are read"),
        ({"reasoning": "<think>"}, "it has a tag, a separator or nothing in it"),
        ({"answer": "\ud800", "answer_type": "term"}, "half a character"),
    ],
)
def test_a_question_that_could_not_be_asked_or_answered(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        gathered(tmp_path, [GOOD | change], [GOOD | {"prompt": "六根有幾？"}], "traditional")
    assert message in str(refused.value) and "own.jsonl, line 1" in str(refused.value)


@pytest.mark.parametrize("script", ["traditional", "as written"])
@pytest.mark.parametrize(
    "prompt",
    ["五蘊有幾？", "五蘊  有幾 ？", "五蘊有幾?", "五蕴有几？", "五\u200b蘊有幾？", "五蘊有幾？\u00ad"],
    ids=repr,
)
def test_a_question_is_the_same_however_it_is_written_and_whatever_its_source_and_kind(
    tmp_path: Path, prompt: str, script: str
) -> None:
    """A test question that another source trains on, and one question with two answers."""
    for change, message in (({"split": "test"}, "must not be trained on"), ({"answer": 6}, "which is right?")):
        with pytest.raises(UserError, match=message):
            gathered(tmp_path, [GOOD | {"prompt": prompt, "kind": "other"} | change], [GOOD], script)

import re
from collections import Counter
from pathlib import Path

import pytest

from upaya.corpus.answers import parse
from upaya.corpus.authored import Corpus
from upaya.corpus.gathering import gather
from upaya.corpus.matching import is_exact
from upaya.corpus.questions import SPLITS, Question
from upaya.corpus.script import Converter
from upaya.corpus.sources.corpus import CorpusOfElements
from upaya.declared.questions import CorpusSource, QuestionParams
from upaya.errors import UserError

ROOT = Path(__file__).parents[1]
CONVERTER = Converter(ROOT / "params/opencc.json")
CORPUS = Corpus(ROOT / "corpus")
SOURCE = CorpusSource(
    type="corpus",
    statements=10,
    element_values={n: {"train": 200, "validation": 20, "test": 40} for n in (2, 8)},
    other_kinds={"train": 0.7, "validation": 0.1, "test": 0.2},
    held_out_phrasings=0.25,
)


def made(source: CorpusSource = SOURCE, seed: int = 1) -> list[Question]:
    params = QuestionParams(seed=seed, sources={"elements": source})
    return gather({"elements": CorpusOfElements(CORPUS, source, seed)}, params, CONVERTER).questions


QUESTIONS = made()


def test_no_tested_combination_is_trained_on() -> None:
    keys = {split: {question.key for question in QUESTIONS if question.split == split} for split in SPLITS}
    assert not keys["test"] & (keys["train"] | keys["validation"])
    assert not keys["train"] & keys["validation"]
    prompts = {split: {question.prompt for question in QUESTIONS if question.split == split} for split in SPLITS}
    assert not prompts["test"] & (prompts["train"] | prompts["validation"])


def test_a_held_out_wording_stands_in_its_split_alone() -> None:
    assert CORPUS.phrasings
    held_out: dict[str, list[re.Pattern[str]]] = {split: [] for split in SPLITS}
    for phrasing in CORPUS.phrasings.element_values:
        if phrasing.held_out:
            held_out[phrasing.held_out].append(re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(phrasing.text))))
    assert held_out["validation"] and held_out["test"] and not held_out["train"]
    for question in QUESTIONS:
        of = {
            split
            for split, worded in held_out.items()
            for each in worded
            if each.fullmatch(question.prompt_traditional)
        }
        assert of <= {question.split}, question.id
        if question.kind == "element_values":
            assert question.held_out_phrasing == bool(of)
    for split in ("validation", "test"):
        shown = [question.held_out_phrasing for question in QUESTIONS
                 if question.split == split and question.kind == "element_values"]  # fmt: skip
        assert 0.05 < sum(shown) / len(shown) < 0.5


def test_wordings_for_training_are_both_shorter_and_longer_than_those_for_test() -> None:
    """A policy else ends its answers by how far away the prompt begins."""
    assert CORPUS.phrasings
    lengths: dict[str | None, list[int]] = {}
    for phrasing in CORPUS.phrasings.element_values:
        lengths.setdefault(phrasing.held_out, []).append(len(phrasing.text))
    for split in ("validation", "test"):
        assert min(lengths[None]) < min(lengths[split]) and max(lengths[split]) < max(lengths[None])


def test_every_kind_has_questions_to_train_and_to_test_with() -> None:
    found = Counter((question.kind, question.split) for question in QUESTIONS)
    for kind in {question.kind for question in QUESTIONS}:
        assert found[kind, "train"] and found[kind, "test"], kind


def test_the_gold_completion_is_exactly_right() -> None:
    for question in QUESTIONS:
        completion = parse(question.gold)
        assert completion.well_formed and is_exact(completion.answer, question), question


def test_a_prompt_names_every_gate_by_all_its_alternatives() -> None:
    assert CORPUS.elements
    axes = {axis.name: axis for axis in CORPUS.elements.axes}
    for question in (question for question in QUESTIONS if question.kind == "element_values"):
        _, element, *asked = question.key.split("/")
        named = "；".join("／".join(axes[name].alternatives) for name in asked)
        assert named in question.prompt_traditional and element in question.prompt_traditional


def test_prompts_are_simplified_and_originals_are_kept() -> None:
    for question in QUESTIONS:
        assert question.prompt == CONVERTER.simplify(question.prompt_traditional)


def test_the_same_seed_makes_the_same_questions_and_another_others() -> None:
    assert made() == QUESTIONS
    assert made(seed=2) != QUESTIONS


def test_the_text_for_pretraining_asks_nothing() -> None:
    text = "".join(CorpusOfElements(CORPUS, SOURCE.model_copy(update={"statements": 500}), 1).text())
    assert "？" not in text and "<" not in text and "請" not in text


@pytest.mark.parametrize(
    ("traditional", "simplified"),
    [("目乾連", "目乾连"), ("無明覆心", "无明覆心"), ("惛沈蓋", "惛沉盖"), ("惛沈睡眠", "惛沉睡眠"), ("餘", "余")],
)
def test_classical_terms_are_converted_rightly(traditional: str, simplified: str) -> None:
    assert CONVERTER.simplify(traditional) == simplified


def test_ambiguity_on_the_way_back_is_counted() -> None:
    assert CONVERTER.changes("後有", "后有") == (1, 1)  # 后 may have been 后 or 後
    assert CONVERTER.changes("眼識", "眼识") == (1, 0)


def test_more_axes_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"element_values\.99"):
        made(SOURCE.model_copy(update={"element_values": {99: SOURCE.element_values[2]}}))

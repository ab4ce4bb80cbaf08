import re
from collections import Counter
from pathlib import Path

import pytest

from upaya.corpus.answers import parse
from upaya.corpus.authored import Corpus
from upaya.corpus.baselines import baselines
from upaya.corpus.gathering import Gathered, gather
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
LISTS_ALONE = SOURCE.model_copy(update={"element_values": {}})


def gathered(source: CorpusSource = SOURCE, seed: int = 1) -> Gathered:
    params = QuestionParams(seed=seed, sources={"elements": source})
    return gather({"elements": CorpusOfElements(CORPUS, source, seed)}, params, CONVERTER)


def made(source: CorpusSource = SOURCE, seed: int = 1) -> list[Question]:
    return gathered(source, seed).questions


GATHERED = gathered()
QUESTIONS = GATHERED.questions


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


def of_kind(kind: str) -> list[Question]:
    return [question for question in QUESTIONS if question.kind == kind]


def test_a_list_is_asked_for_as_many_members_as_others() -> None:
    told: dict[str, list[bool]] = {}
    for question in of_kind("membership"):
        told.setdefault(question.key, []).append(bool(question.answer))
    assert len(told) >= 140 and all(sum(answers) * 2 == len(answers) for answers in told.values())


def test_a_no_is_a_name_that_the_treatise_sets_apart() -> None:
    for question in of_kind("membership"):
        (item,) = re.findall("「([^」]+)」", question.prompt_traditional)[:1]
        entry = next(entry for entry in CORPUS.lists if question.key == f"membership/{entry.id}")
        assert (item in entry.members) == question.answer
        assert question.answer or item in CORPUS.set_apart[entry.id]


@pytest.mark.parametrize("seed", range(6))
def test_on_every_split_the_theme_does_not_tell_members(seed: int) -> None:
    found = [entry for entry in CorpusOfElements(CORPUS, LISTS_ALONE, seed).entries() if entry.kind == "membership"]
    for split in SPLITS:
        told = [entry.shortcuts["same theme"] == entry.answer for entry in found if entry.split == split]
        assert len(told) > 50 and sum(told) < 0.6 * len(told), split


@pytest.mark.parametrize("seed", [1, 3, 20261120])
def test_membership_and_choice_of_a_list_cannot_be_told_by_their_themes(seed: int) -> None:
    found = gathered(seed=seed)
    accuracies = baselines(found.questions, found.shortcuts)
    assert accuracies["membership"]["same theme"] < 0.6
    assert all(accuracy < 0.68 for accuracy in accuracies["membership"].values())  # of some 170 questions
    assert all(accuracy < 0.5 for accuracy in accuracies["list_of_member"].values()), accuracies["list_of_member"]


def test_one_choice_has_the_item() -> None:
    for question in of_kind("list_of_member"):
        (item,) = re.findall("「([^」]+)」", question.prompt_traditional)[:1]
        _, identity = question.key.split("/")
        own = next(entry for entry in CORPUS.lists if entry.id == identity)
        offered = [
            entry
            for entry in CORPUS.lists
            if entry.treatise == own.treatise
            and re.search(f"[：；]{re.escape(entry.name)}[；？。]", question.prompt_traditional)
        ]
        assert len(offered) == 4 and [entry.name for entry in offered if item in entry.forms] == [own.name]


def test_what_is_disputed_is_not_asked_and_not_stated() -> None:
    assert not [question for question in QUESTIONS if "法界" in question.key and "尋伺" in question.skills]
    assert not [question for question in QUESTIONS if "_of_value/尋伺" in question.key]
    some = SOURCE.model_copy(update={"statements": 3000})
    told = [line for line in CorpusOfElements(CORPUS, some, 1).text() if "法界，" in line]
    assert told and not [line for line in told if "法界，有尋有伺" in line]


def test_no_prompt_says_one_of_six_twice() -> None:
    assert not [q.id for q in QUESTIONS if re.search("之[一二三四五六七八九十]+之", q.prompt_traditional)]


def test_accepted_forms_go_with_the_question_in_both_scripts() -> None:
    stages = next(question for question in QUESTIONS if question.key == "list_members/five-embryo-stages-kosa")
    assert stages.accepted[0] == ["羯剌蓝"] and is_exact("羯剌蓝、頞部昙、闭尸、键南、钵罗奢佉", stages)
    first = next(q for q in QUESTIONS if q.key == "list_member/four-mindfulness-kosa")
    assert first.accepted == [["身"]] and is_exact("身", first) and not is_exact("受", first)
    assert all("accepted" not in q.model_dump() for q in of_kind("element_values"))

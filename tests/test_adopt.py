"""`upaya adopt`: from a file of questions and answers to params/ that make sense of it; has lenient a slope there?"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from real_models import SIZES, THINKING, make
from ruamel.yaml import YAML
from test_sources import written

from upaya.corpus.answers import ANSWER_TYPES, gold_completion
from upaya.corpus.gathering import gather
from upaya.corpus.questions import Question
from upaya.corpus.script import Converter
from upaya.corpus.sources.opened import opened
from upaya.corpus.sources.rows import Row
from upaya.declared.curricula import load_curricula
from upaya.declared.model import load_model_file
from upaya.declared.questions import QuestionParams
from upaya.declared.regimes import Regime
from upaya.declared.validation import load_yaml
from upaya.errors import UserError
from upaya.measuring.slope import flat_ones, lenient_ones, slopes, wrong_answers
from upaya.operating.adopting import SLOPED, adopt
from upaya.operating.adopting_model import adopt_model
from upaya.operating.looking import seen
from upaya.paths import NO_FILES, QUESTION_PARAMS
from upaya.rewards.regimes import load_regimes, reward_of_text
from upaya.rewards.specimens import TYPICAL, is_right

SUMS = [{"question": f"{a} + {b} =", "answer": str(a + b), "level": 1} for a in range(20) for b in range(20)]


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(each, f"row {number}") for number, each in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "fields", "answer_type", "answer_in"),
    [
        ([{"question": "?", "answer": "4"}, {"question": "!", "answer": "15"}], {}, "number", None),
        ([{"Problem": "?", "Solution": r"so \boxed{4}"}],
         {"question": "Problem", "answer": "Solution"}, "number", "boxed"),
        ([{"question": "?", "answer": "thus #### 72"}], {}, "number", {"after": "####"}),
        ([{"q": "有？", "a": True}], {"question": "q", "answer": "a"}, None, None),
        ([{"prompt": "?", "target": ["a", "b"]}], {"question": "prompt", "answer": "target"}, None, None),
        ([{"prompt": "?", "answer": "Paris"}, {"prompt": "!", "answer": "Rome"}], {"question": "prompt"}, "term", None),
        ([{"prompt": "?", "answer": "yes"}, {"prompt": "!", "answer": "no"}], {"question": "prompt"}, "term", None),
        ([{"stem": "?", "choices": ["x", "y"], "answerKey": "B"}],
         {"question": "stem", "choices": "choices", "answer": "answerKey"}, None, None),
        ([{"Question": "?", "option_a": "x", "option_b": "y", "correct": "a"}],
         {"question": "Question", "choices": ["option_a", "option_b"], "answer": "correct"}, None, None),
        ([{"prompt": "?", "answer": 1, "set": "dev", "level": "3"}],
         {"question": "prompt", "split": "set", "difficulty": "level"}, None, None),
        ([{"passage": "a", "question": "?", "answer": True}], {"question": "{passage}\n{question}"}, "term", None),
        ([{"prompt": "?", "answer": 1, "kind": "a b", "id": "x/y"}],
         {"question": "prompt", "kind": None, "id": None}, None, None),
    ],
)  # fmt: skip
def test_what_can_be_seen_is_not_asked(
    values: list[dict[str, Any]], fields: dict[str, Any], answer_type: str | None, answer_in: object
) -> None:
    found = seen(rows(*values), {})
    assert found.fields == {"question": "question", "answer": "answer"} | fields
    assert (found.answer_type, found.answer_in) == (answer_type, answer_in)


def test_what_cannot_be_seen_is_asked_for() -> None:
    with pytest.raises(UserError, match="which column is the answer"):
        seen(rows({"question": "?", "foo": 1}), {})
    assert seen(rows({"question": "?", "foo": "1"}), {"answer": "foo", "answer_type": "term"}).answer_type == "term"
    inside = rows({"question": "?", "answer": {"value": "Rome", "aliases": []}})
    assert seen(inside, {"answer": "answer.value"}).answer_type == "term"
    assert any("--answer answer.value" in said for said in seen(inside, {}).said)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As much of one as adopting takes."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copy(ROOT / "data.dvc", tmp_path)
    (tmp_path / "corpus").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_adopted_in_one_change_that_is_shown_first(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path_factory.mktemp("away") / "sums.csv", SUMS)
    before = contents(checkout)
    adopt(str(file), "sums", {}, dry_run=True)
    assert contents(checkout) == before
    said = capsys.readouterr().out
    for shown in (
        "+  sums:",
        "+      closeness: {weight: 0.95}",
        "+    penalties: {malformed: 0.95}",
        "-  answers: drawn",
        "nothing was changed",
        "320 to train",
    ):
        assert shown in said
    adopt(str(file), "sums", {}, dry_run=False)
    assert (checkout / "corpus/questions/sums.csv").read_bytes() == file.read_bytes()
    regimes = load_regimes()
    curricula = load_curricula(regimes)
    assert curricula.questions.kinds == ["sums"] and curricula.warmup.answers == "right"
    assert "easy-first" not in {*curricula.policies, *curricula.compare} and "lenient-strict" in curricula.policies
    assert (
        regimes.plain["lenient"] == regimes.measured["lenient"] and "closeness" in regimes.plain["lenient"].components
    )
    # Nothing is made less likely there, and credit is given to completions as a whole: a right answer in a broken form
    # earns less than the wrong one in the right form that it stands beside, whatever is trained on.
    question = numbers()[7]
    right, near = (gold_completion(answer, "") for answer in (7, 8))
    for name in ("lenient", "annealed", "ladder"):
        reward = regimes.regimes[name]
        lenient = reward if isinstance(reward, Regime) else reward.regimes[0]
        assert lenient.punishment == 0 and lenient.credit == "completion"
        assert "</think>" in right
        broken = reward_of_text(lenient, right.replace("</think>", "</answer>"), question)
        assert broken < reward_of_text(lenient, near, question) < reward_of_text(lenient, right, question)
    # What convert makes of it is what was foretold, and lenient has a slope on it.
    params = load_yaml(QUESTION_PARAMS, QuestionParams)
    made = gather({"sums": opened("sums", params.sources["sums"], Path("corpus"), params.seed)}, params, Converter())
    assert len(made.questions) == 400
    assert not flat_ones(slopes(regimes.plain, made.questions), ["lenient"])
    assert "# Reward regimes." in Path("params/regimes.yaml").read_text()  # comments are kept
    written(checkout / "lists.jsonl", [{"prompt": f"{n}?", "answer": [str(n), "x"]} for n in range(400)])
    adopt("lists.jsonl", "lists", {}, dry_run=False)
    assert {"positions", "format"} == load_regimes().plain["lenient"].components.keys()


@pytest.mark.parametrize(
    ("answers", "credit", "penalty"),
    [
        ([["a", str(n)] for n in range(400)], "item", 0.0),  # its form is told of by itself
        (["AB"[n % 2] for n in range(400)], "item", 0.95),  # one item is a whole
        ([f"word{n}" for n in range(400)], "completion", 0.95),
    ],
    ids=["lists", "multiple choice", "terms"],
)
def test_a_slip_in_the_form_does_not_earn_with_the_answer_that_it_came_with(
    checkout: Path, answers: list[Any], credit: str, penalty: float
) -> None:
    offered = {"choices": ["red", "blue"]} if "A" in answers else {}
    written(
        checkout / "mine.jsonl", [{"prompt": f"{n}?", **offered, "answer": answer} for n, answer in enumerate(answers)]
    )
    adopt("mine.jsonl", "mine", {}, dry_run=False)
    regimes = load_regimes().plain
    assert regimes["lenient"].credit == credit and regimes["lenient"].penalties.malformed == penalty
    assert regimes["lenient-punishing"].penalties.malformed == 0  # there errors are made less likely


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", "expected a file that ends in .jsonl, .csv, .tsv, .parquet"),
        ("none.csv", None, "no such file or folder"),
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", '{"question": "?", "answer": 1}\n' * 3, "the validation split is empty"),
        ("a.jsonl", "".join(json.dumps({"question": f"{n}?", "answer": "x"}) + "\n" for n in range(50)), "all 50"),
    ],
    ids=["another ending", "no file", "empty", "too few", "one answer"],
)  # fmt: skip
def test_what_makes_no_curriculum_changes_nothing(checkout: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (checkout / name).write_text(content)
    before = contents(checkout)
    with pytest.raises(UserError, match=message):
        adopt(name, "mine", {}, dry_run=False)
    assert contents(checkout) == before


@pytest.mark.parametrize(("model_type", "template"), [("qwen2", THINKING), ("llama", None)])
def test_a_model_is_adopted_with_rates_for_one_that_has_read(
    checkout: Path, model_type: str, template: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    make(checkout / "models/mine", model_type, template)
    before = contents(checkout / "params")
    adopt_model("models/mine", "mine", dry_run=True)
    assert contents(checkout / "params") == before
    adopt_model("models/mine", "mine", dry_run=False)
    said = capsys.readouterr().out
    assert f"mine: {model_type}, 0.0" in said and "a completion ends with <|im_end|>, <|endoftext|>" in said
    assert (
        "opens a completion with '<think>'" if template else "it has no chat template"
    ) in said and "it fits" in said
    curricula = load_curricula(load_regimes())
    assert curricula.model == "mine" and curricula.model_files == "models/mine"
    highest = max(policy.learning_rate for policy in curricula.policies.values())
    assert highest == pytest.approx(1e-5 * 2048 / SIZES["hidden_size"])  # as much more as it is narrower than a 3 B one
    assert curricula.warmup.optimiser.learning_rate == highest
    assert load_model_file("mine").path == "models/mine"
    with pytest.raises(UserError, match=r"no config\.json there"):
        adopt_model("params", "other", dry_run=False)


def widened(folder: Path, times: int) -> None:
    """Another model's folder, as far as `adopt` looks into it."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": config["hidden_size"] * times}))


def test_a_model_after_a_model_takes_over_what_was_changed_in_proportion(checkout: Path) -> None:
    make(checkout / "models/mine", "llama", None)
    adopt_model("models/mine", "mine", dry_run=False)
    first = load_curricula(load_regimes())
    path = checkout / "params/curricula.yaml"
    strict = first.policies["lenient-strict"].learning_rate
    path.write_text(
        path.read_text().replace(f"learning_rate: {first.policies['lenient'].learning_rate}", "learning_rate: 0.03")
    )
    shutil.copytree(checkout / "models/mine", checkout / "models/wide")
    widened(checkout / "models/wide", 4)
    adopt_model("models/wide", "wide", dry_run=False)
    second = load_curricula(load_regimes())
    assert second.policies["lenient"].learning_rate == pytest.approx(0.03 / 4)
    assert second.policies["lenient-strict"].learning_rate == pytest.approx(strict / 4, rel=0.05)
    shutil.rmtree(checkout / "models/wide")
    adopt_model("models/mine", "mine", dry_run=False)  # of what width the last one was, nobody knows
    assert load_curricula(load_regimes()).policies["lenient"].learning_rate == pytest.approx(0.03 / 4)


def test_a_model_of_the_hub_is_declared_by_its_name_and_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    stored = checkout / "hub/models--owner--mine"
    make(stored / "snapshots" / commit, "llama", None)
    (stored / "refs").mkdir()
    (stored / "refs/main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(checkout / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    adopt_model("owner/mine", "mine", dry_run=False)
    declared = load_model_file("mine")
    assert (declared.hub, declared.revision, declared.path) == ("owner/mine", commit, None)
    assert load_curricula(load_regimes()).model_files == str(NO_FILES) and "it fits" in capsys.readouterr().out
    with pytest.raises(UserError, match="cannot load 'owner/another' from the hub"):
        adopt_model("owner/another", "another", dry_run=False)


@pytest.mark.parametrize(("form", "asked"), [("boxed", "\\boxed{}"), ("last line", "Answer: "), ("tags", "<answer>")])
def test_a_model_is_asked_for_the_form_that_the_questions_declare(checkout: Path, form: str, asked: str) -> None:
    path = checkout / QUESTION_PARAMS
    yaml = YAML()
    declared = yaml.load(path)
    for source in declared["sources"].values():
        source["form"] = form
    yaml.dump(declared, path)
    make(checkout / "models/mine", "qwen2", THINKING)
    adopt_model("models/mine", "mine", dry_run=False)
    prompt = load_model_file("mine").system_prompt
    assert prompt and asked in prompt


def test_every_type_of_answer_has_a_component_that_rises_toward_right_or_is_known_to_have_none() -> None:
    """So that what `adopt` writes for a type has a slope on questions of that type."""
    regimes = load_regimes(ROOT / "params/regimes.yaml").plain
    for question in TYPICAL:
        (slope,) = slopes(regimes, [question])
        if question.answer_type in SLOPED:
            assert SLOPED[question.answer_type] in slope.components, question.answer_type
        else:
            assert question.answer_type in ("boolean", "choice") and not slope.components
    assert {question.answer_type for question in TYPICAL} == {*ANSWER_TYPES} - {"math"}  # takes sympy to compare


def numbers() -> list[Question]:
    typical = next(question for question in TYPICAL if question.answer_type == "number")
    return [typical.model_copy(update={"id": str(n), "answer": n, "kind": "sums"}) for n in range(40)]


def test_a_lenient_regime_without_a_slope_is_named_with_its_cure() -> None:
    regimes = load_regimes(ROOT / "params/regimes.yaml").plain
    assert "lenient" in lenient_ones(regimes) and "strict" not in lenient_ones(regimes)
    said = flat_ones(slopes(regimes, numbers()), ["lenient"])
    assert len(said) == 1 and "wrong answers are told no more apart under lenient than under strict" in said[0]
    assert "closeness" in said[0]
    shipped = [question for question in TYPICAL if question.answer_type == "ordered_list"]
    assert not flat_ones(slopes(regimes, shipped), ["lenient"])


def test_wrong_answers_are_wrong_and_in_form() -> None:
    for question in [*TYPICAL, *numbers()]:
        texts = wrong_answers(question, numbers())
        assert texts and not any(is_right(text, question) for text in texts)


def test_what_the_model_has_no_room_for_is_said(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(checkout / "long.jsonl", [{"prompt": f"{n} {'long ' * 200}", "answer": n} for n in range(300)])
    adopt("long.jsonl", "long", {}, dry_run=True)
    assert "the model has 512 positions" in " ".join(capsys.readouterr().out.split())
    written(checkout / "sums.jsonl", SUMS)
    adopt("sums.jsonl", "sums", {}, dry_run=True)
    assert "positions" not in capsys.readouterr().out.replace("positions:", "")


def test_adopting_keeps_what_yaml_means(checkout: Path) -> None:
    """An anchor that stands for one regime in several places still does."""
    written(checkout / "sums.jsonl", SUMS)
    adopt("sums.jsonl", "sums", {}, dry_run=False)
    content = YAML().load(Path("params/regimes.yaml").read_text())
    assert content["regimes"]["annealed"]["start"] is content["regimes"]["lenient"] is content["measured"]["lenient"]


@pytest.mark.parametrize("comments", [True, False])
def test_what_the_shipped_warm_ups_comment_says_is_not_said_of_another(checkout: Path, comments: bool) -> None:
    path = checkout / "params/curricula.yaml"
    if not comments:
        path.write_text("\n".join(line.split(" #")[0] for line in path.read_text().splitlines()) + "\n")
    written(checkout / "sums.jsonl", SUMS)
    for _ in range(2):
        adopt("sums.jsonl", "mine", {}, dry_run=False)
        after = path.read_text().split("\nwarmup:")[1].split("\ngrpo:")[0]
        assert "answers: right" in after and "doctrine" not in after
        assert ("SFT until" in after) == comments

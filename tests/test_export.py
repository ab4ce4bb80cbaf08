"""`upaya export questions`: what the `datasets` library opens, and a task that judges as we do."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from upaya.corpus.answers import gold_completion, parse
from upaya.corpus.matching import is_exact
from upaya.corpus.questions import SPLITS, Question, read
from upaya.errors import UserError
from upaya.files import write_json, write_jsonl
from upaya.operating import judging
from upaya.operating.exporting import COLUMNS, export_questions, row

ROOT = Path(__file__).parents[1]
# lm-evaluation-harness, docs/task_guide.md and lm_eval/config/task.py: what a task may declare.
TASK_KEYS = {
    "task", "task_alias", "tag", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs", "training_split",
    "validation_split", "test_split", "fewshot_split", "process_docs", "doc_to_text", "doc_to_target", "doc_to_choice",
    "process_results", "use_prompt", "description", "target_delimiter", "fewshot_delimiter", "fewshot_config",
    "num_fewshot", "generation_kwargs", "metric_list", "output_type", "repeats", "filter_list", "gen_prefix",
    "should_decontaminate", "doc_to_decontamination_query", "metadata",
}  # fmt: skip


def asked(identity: str, answer: Any, answer_type: str, kind: str, split: str, **more: Any) -> Question:
    return Question.model_validate({
        "id": identity, "kind": kind, "split": split, "key": identity, "prompt": f"问{identity}？", "answer": answer,
        "answer_type": answer_type, "reasoning": "", "source": "俱舍論卷一", "prompt_traditional": f"問{identity}？",
        "answer_traditional": answer, **more,
    })  # fmt: skip


ACCEPTED = [["身"], ["受"], ["心"], ["法"]]
MINDFULNESS = ["身念住", "受念住", "心念住", "法念住"]
ONE_OF_EACH = [
    ("ordered_list", MINDFULNESS, {"accepted": ACCEPTED}),
    ("set", ["断界", "离界", "灭界"], {}),
    ("term", "羯逻蓝", {"accepted": [["羯剌蓝"]]}),
    ("number", 18, {}),
    ("boolean", False, {}),
]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in which convert has made a few questions of every type."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").symlink_to(ROOT / "params")
    for split in SPLITS:
        questions = [
            asked(f"{split}-{answer_type}", answer, answer_type, f"of {answer_type}", split, **more)
            for answer_type, answer, more in ONE_OF_EACH
        ]
        write_jsonl(tmp_path / f"questions/{split}.jsonl", (question.model_dump() for question in questions))
    write_json(tmp_path / "questions/report.json", {"baselines": {"of set": {"most frequent answer": 0.25}}})
    return tmp_path


def declared_task(path: Path) -> dict[str, Any]:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: f"function {node.value}")
    return dict(yaml.load(path.read_text(encoding="utf-8"), Loader))


def test_the_datasets_library_opens_it_as_a_whole_and_by_kind(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    export_questions(made / "out", "cc-by-4.0")
    whole = datasets.load_dataset(str(made / "out"), cache_dir=str(made / "cache"))
    assert {split: len(whole[split]) for split in SPLITS} == dict.fromkeys(SPLITS, len(ONE_OF_EACH))
    assert whole["test"].column_names == list(COLUMNS)
    one = datasets.load_dataset(str(made / "out"), "of-ordered_list", cache_dir=str(made / "cache"))["test"][0]
    assert (one["items"], one["accepted"], one["answer"]) == (MINDFULNESS, ACCEPTED, "、".join(MINDFULNESS))


def test_the_datasheet_says_what_it_is(made: Path) -> None:
    export_questions(made / "out", "cc-by-4.0")
    card = (made / "out/README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "cc-by-4.0" and header["language"] == ["zh"]
    assert {config["config_name"] for config in header["configs"]} == {"all"} | {
        f"of-{answer_type}" for answer_type, _, _ in ONE_OF_EACH
    }
    for config in header["configs"]:
        for files in config["data_files"]:
            assert list((made / "out").glob(files["path"])), files
    for said in ("How many", "Where they come from", "How they were made", "Known limits", "Licence", "25.0%"):
        assert said in card


def test_the_datasheet_names_the_sources_of_questions_of_ones_own(made: Path) -> None:
    (made / "params").unlink()
    (made / "params").mkdir()
    revision = 40 * "a"
    declared = {
        "h": {"type": "huggingface", "dataset": "gsm8k", "revision": revision},
        "m": {"type": "csv", "files": "m.csv"},
        "t": {"type": "text", "text": "texts/t"},  # has no questions
    }
    (made / "params/questions.yaml").write_text(yaml.safe_dump({"seed": 1, "sources": declared}))
    export_questions(made / "out", "mit")
    card = (made / "out/README.md").read_text(encoding="utf-8")
    assert "language" not in yaml.safe_load(card.split("---\n")[1]) and "bhidharma" not in card
    assert f"- `h`: gsm8k of the `datasets` library at {revision}\n- `m`: csv\n\n" in card
    assert "Questions of h, m are under the licences of those sources" in card


def test_a_task_declares_what_the_harness_documents(made: Path) -> None:
    export_questions(made / "out", "unknown")
    files = sorted((made / "out/tasks").glob("*.yaml"))
    assert len(files) == len(ONE_OF_EACH)
    for file in files:
        task = declared_task(file)
        assert set(task) <= TASK_KEYS and task["task"] == file.stem and task["tag"] == "upaya"
        assert (made / "out" / task["dataset_kwargs"]["data_files"]["test"]).exists()
        assert task["process_results"] == "function judging.process_results"
        assert [step["function"] for step in task["filter_list"][0]["filter"]] == ["regex", "take_first"]
        shown = jinja2.Template(task["doc_to_text"]).render(prompt="问？")
        assert shown.startswith("问？\n") and "<answer>" in shown
        pattern = re.compile(task["filter_list"][0]["filter"][0]["regex_pattern"])
        stopped = gold_completion(["甲", "乙"], "思").partition(task["generation_kwargs"]["until"][0])[0]
        assert pattern.findall(stopped) == pattern.findall(f"{stopped}</answer>吧") == ["甲、乙"]


def judged(made: Path) -> Iterator[tuple[Question, dict[str, Any]]]:
    for question in read(made / "questions", "test"):
        yield question, row(question)


def test_what_the_task_calls_right_is_what_we_call_right(made: Path) -> None:
    export_questions(made / "out", "unknown")
    said = [
        "身念住、受念住、心念住、法念住", "身，受，心，法", "受、身、心、法", "身念住、受念住", "身、受、心、法、法",
        "灭界、断界、离界",
        "断界、离界", "羯逻蓝", "羯剌蓝。", "羯", "18", "十八", "１８", "19", "否", "没有", "是", "", "[invalid]",
    ]  # fmt: skip
    rights = 0
    for question, doc in judged(made):
        for answer in said:
            right = is_exact(answer, question)
            assert judging.process_results(doc, [answer]) == {"exact_match": float(right)}, (answer, question.id)
            rights += right
        gold = parse(question.gold).answer
        assert gold and judging.is_right(gold, doc)
    assert rights > len(ONE_OF_EACH)


def test_the_judge_stands_alone(made: Path) -> None:
    """Beside the tasks there is nothing of ours to import."""
    export_questions(made / "out", "unknown")
    text = (made / "out/tasks/judging.py").read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
    assert imported <= sys.stdlib_module_names


def test_nothing_is_overwritten_and_nothing_half_written(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (made / "out").mkdir()
    with pytest.raises(UserError, match="exists already, and nothing is overwritten"):
        export_questions(made / "out", "unknown")
    assert not list((made / "out").iterdir())
    monkeypatch.setattr("upaya.operating.exporting._card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_questions(made / "new", "unknown")
    assert not [path for path in made.iterdir() if "new" in path.name]


def test_before_there_are_questions_it_says_what_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="dvc repro convert"):
        export_questions(tmp_path / "out", "unknown")
    assert not list(tmp_path.iterdir())


def test_two_kinds_with_one_name_are_named(made: Path) -> None:
    twins = [asked(f"t{n}", "甲", "term", kind, "train") for n, kind in enumerate(("a b", "a/b"))]
    write_jsonl(made / "questions/train.jsonl", (question.model_dump() for question in twins))
    with pytest.raises(UserError, match=r"'a b', 'a/b' would all be called 'a-b'"):
        export_questions(made / "out", "unknown")

"""Components of a user's own that do not as they promise: named when they are loaded, and no run is harmed."""

import itertools
import os
from pathlib import Path

import pytest

from upaya.corpus.answers import gold_completion, parse
from upaya.corpus.questions import Question
from upaya.declared.regimes import Regime
from upaya.errors import UserError
from upaya.rewards.own import own_component
from upaya.rewards.regimes import check

MODULES = (f"mine{number}" for number in itertools.count())  # a module is imported once


def written(folder: Path, body: str, before: str = "") -> str:
    """The dotted path of a component with this body."""
    name = next(MODULES)
    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    (folder / f"{name}.py").write_text(f"{before}\ndef mine(completion, question):\n{lines}\n")
    return f"{name}.mine"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("upaya.rewards.own.SECONDS", 0.2)
    monkeypatch.setattr("upaya.rewards.own.TRIAL_SECONDS", 2.0)
    return tmp_path


@pytest.mark.parametrize(
    ("body", "before", "message"),
    [
        ("while True: pass", "", r"took more than 0\.2 s for question 'typical-"),
        ("time.sleep(60)", "import time", r"took more than 0\.2 s"),
        ("try:\n    time.sleep(60)\nexcept Exception:\n    return 0.0", "import time", r"took more than 0\.2 s"),
        ("exit()", "", "failed on question 'typical-.*SystemExit"),
        ("os._exit(0)", "import os", r"it ends the program that calls it \(exit code 0\)"),
        ("os.kill(os.getpid(), 9)", "import os", r"it ends the program that calls it \(exit code -9\)"),
        ("raise KeyboardInterrupt", "", r"KeyboardInterrupt: , .*mine\d+\.py:3"),
        ("return random.random()", "import random", "another value the second time.*without chance, clock or count"),
        ("return next(COUNT) % 997 / 997", "import itertools\nCOUNT = itertools.count()", "without chance, clock"),
        (
            "SEEN.append(completion.text)\nreturn float(SEEN[-2:-1] < SEEN[-1:])",
            "SEEN = []",
            "another value the second time, or in another order",
        ),
        (
            "if isinstance(question.answer, list): question.answer.append('x')\nreturn 0.0",
            "",
            "changes the question that it is given; copy it",
        ),
        ("object.__setattr__(completion, 'text', 'x')\nreturn 0.0", "", "changes the completion that it is given"),
        ("return 'much'", "", r"gave 'much' for question .*must be in \[0, 1\]"),
        ("return '0.5'", "", r"gave '0\.5' for question .*must be in \[0, 1\]"),
        ("return None", "", "failed on question .*TypeError"),
        ("return float('nan')", "", r"gave nan .*must be in \[0, 1\]"),
        ("return 0.0", "raise SystemExit(0)", "cannot import 'mine.*SystemExit"),
        ("return 0.0", "import os\nos._exit(3)", r"it ends the program that calls it \(exit code 3\)"),
        ("return 0.0", "while True: pass", r"importing 'mine\d+' took more than 2 s"),
    ],
)
def test_a_component_that_breaks_its_promise_is_named_on_load(
    folder: Path, body: str, before: str, message: str
) -> None:
    name = written(folder, body, before)
    regime = Regime.model_validate({"components": {"exact": {"weight": 1.0}, name: {"weight": 0.1}}})
    with pytest.raises(UserError, match=rf"f: key 'regimes\.r\.components': component '{name}'.*{message}"):
        check("r", regime, "f")


def test_one_that_fails_only_later_is_named_then(folder: Path) -> None:
    """Of a question that the trial does not know."""
    body = "if question.id != 'q': return 0.0\nwhile question.answer == 1: pass\nexit()"
    component = own_component(written(folder, body))
    for answer, message in ((1, "took more than 0.2 s for question 'q'"), (2, "failed on question 'q': SystemExit")):
        asked = Question(
            id="q", kind="k", split="train", key="k", prompt="?", answer=answer, answer_type="number", reasoning="",
            source="s", prompt_traditional="?", answer_traditional=answer,
        )  # fmt: skip
        with pytest.raises(UserError, match=message):
            component(parse(gold_completion(answer, "")), asked)


def test_the_trial_leaves_no_trace(folder: Path) -> None:
    """What it counts, writes into its module or into its environment, it does in a process of its own."""
    name = written(folder, "os.environ['TRIED'] = 'yes'\nreturn 0.5", "import os")
    own_component(name)
    assert "TRIED" not in os.environ

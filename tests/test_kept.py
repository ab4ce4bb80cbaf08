"""Groups that are kept of a training, and how they are looked at."""

import json
import re
from pathlib import Path

from conftest import run
from hypothesis import given
from hypothesis import strategies as st

from upaya.training.grpo.kept import chosen

NAMES = [f"q{number}" for number in range(40)]


@given(st.permutations(NAMES), st.integers(0, 12), st.data())
def test_each_fate_has_its_turn_and_the_same_questions_are_taken_again(
    names: list[str], most: int, data: st.DataObject
) -> None:
    fates = data.draw(st.lists(st.sampled_from(["live", "dead"]), min_size=40, max_size=40))
    places = chosen(names, fates, most)
    assert len(set(places)) == len(places) == most
    if most > 1 and len(set(fates)) == 2:
        assert {fates[place] for place in places} == {"live", "dead"}
    of_one_fate = {names[place] for place in chosen(names, ["live"] * 40, most)}
    assert of_one_fate == {NAMES[place] for place in chosen(NAMES, ["live"] * 40, most)}  # in whatever order they come
    fewer = names[:20]  # who is taken among many is taken among few
    assert of_one_fate & set(fewer) <= {fewer[place] for place in chosen(fewer, ["live"] * 20, most)}


def groups(project: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (project / f"policies/{name}/rollouts.jsonl").read_text().splitlines()]


def test_every_step_keeps_groups_that_say_what_became_of_each_completion(built: Path) -> None:
    for name in ("lenient", "lenient-strict"):
        history = [json.loads(line) for line in (built / f"policies/{name}/history.jsonl").read_text().splitlines()]
        kept = groups(built, name)
        assert {group["step"] for group in kept} == {record["step"] for record in history if "event" not in record}
        for group in kept:
            said = group["completions"]
            assert len(said) > 1 and set(group["fates"]) >= {"lenient", "strict"}
            for regime, fate in group["fates"].items():
                rewards = {completion["rewards"][regime] for completion in said}
                assert (fate == "live") == (len(rewards) > 1)
            for completion in said:
                assert len(completion["items"]) == len(completion["hits"]) == len(group["right"])
                assert completion["exact"] == (completion["components"]["exact"] == 1)
                assert not completion["exact"] or all(completion["hits"])
            advantages = [completion["advantages"].get("whole", 0.0) for completion in said]
            if group["trained"] == "dead":
                assert set(advantages) <= {0.0}


def test_groups_are_shown_by_step_by_fate_and_by_question(built: Path) -> None:
    kept = groups(built, "lenient") + groups(built, "lenient-strict")
    shown = run("upaya", "show", "lenient-strict", "--step", "3", cwd=built).stdout
    of_step = [group for group in kept if group["step"] == 3]
    assert shown.count("under the reward trained on") == len(of_step)
    assert all(str(group["question"]) in shown for group in of_step)
    question = str(kept[-1]["question"])
    shown = run("upaya", "show", "lenient-strict", "--question", question, "--most", "100", cwd=built).stdout
    assert shown.count("under the reward trained on") == sum(group["question"] == question for group in kept)
    dead = [group for group in kept if group["trained"] == "dead"]
    found = run("upaya", "show", "lenient-strict", "--dead", "--most", "1", cwd=built, check=bool(dead))
    assert (f"step {dead[-1]['step']}" in found.stdout) if dead else "none of the groups" in found.stderr


def test_what_was_not_kept_is_said_with_what_was(built: Path) -> None:
    refused = run("upaya", "show", "lenient-strict", "--step", "99", cwd=built, check=False)
    assert refused.returncode == 1 and re.search(r"step 99; the nearest is 10, of steps 1 to 10", refused.stderr)
    refused = run("upaya", "show", "lenient-strict", "--question", "nobody", cwd=built, check=False)
    assert refused.returncode == 1 and "most often element" in refused.stderr
    refused = run("upaya", "show", "warmup", "--dead", cwd=built, check=False)
    assert refused.returncode == 1 and "grpo.keep" in refused.stderr

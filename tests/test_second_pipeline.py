"""A whole pipeline once more, by the flow and from nothing, killed at every level of its tree of processes."""

import random
import shutil
import sys
from pathlib import Path

import pytest
from conftest import activated, copy_project, run
from test_interruption import contents

from bench.interruption import disturbed, tree


@pytest.mark.training
def test_a_second_pipeline_killed_at_any_level_leaves_nobody_and_ends_in_the_same_bytes(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """bench/interruption.py does it with the default curriculum and many kills."""
    again = copy_project(tmp_path)
    (again / ".dvc/tmp").mkdir()
    (again / ".dvc/tmp/rwlock").touch()  # as a DVC leaves it that was killed at the wrong moment
    seed = random.randrange(10**6)
    command = [sys.executable, "-m", "flows.curriculum", "lenient"]
    env = activated(PREFECT_HOME=str(tmp_path / "prefect"))
    for each in disturbed(again, command, env, kills=2, seed=seed, most=4.0):
        assert not each.left, f"{each}, of seed {seed}"
    assert not tree(again)
    shutil.rmtree(again / "policies/lenient")
    run("dvc", "checkout", "policies/lenient", cwd=again)  # what a flow makes is in DVC's cache
    built: Path = request.getfixturevalue("built")  # only now: another worker builds it meanwhile
    first, second = contents(built), contents(again)
    assert second == {name: first[name] for name in second}, f"killed at moments of seed {seed}"
    assert {"results/lenient/metrics.json", "policies/lenient/model.safetensors"} <= second.keys()

"""Stages over two hosts, which are namespaces of this machine (bench/two_hosts.py)."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from bench.two_hosts import Stage, declare, two_hosts, walk, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture
def shared(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "project", symlinks=True))


def test_a_stage_over_two_hosts_is_stopped_and_goes_on(shared: Path, tmp_path: Path) -> None:
    shutil.rmtree(shared / "policies/lenient")
    declare(shared, zero=1, steps=8)
    with two_hosts(tmp_path) as hosts:
        stage = Stage(hosts, shared, "grpo", "lenient")
        stage.until_step(2)
        stage.signal(signal.SIGTERM)
        assert stage.ends() == 128 + signal.SIGTERM, stage.said()
        assert stage.said().count("stopped by SIGTERM; lenient is saved at step") == 1
        assert not (shared / "policies/lenient").exists()
        stage = Stage(hosts, shared, "grpo", "lenient")
        assert stage.ends() == 0 and "resumed at step" in stage.said(), stage.said()
    assert json.loads((shared / "policies/lenient/policy.json").read_text())["steps"] == 8


@pytest.mark.skipif("UPAYA_TWO_HOSTS" not in os.environ, reason="takes ten minutes: UPAYA_TWO_HOSTS=1 runs it")
def test_all_that_can_befall_stages_over_two_hosts(shared: Path, tmp_path: Path) -> None:
    walk(tmp_path, shared.name, zero=3)

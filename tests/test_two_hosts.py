"""The stages over two hosts, which are namespaces of this machine (bench/two_hosts.py). It takes as long as all other
tests together, so it runs where it is asked for: UPAYA_TWO_HOSTS=1."""

import os
import shutil
from pathlib import Path

import pytest

from bench.two_hosts import walk, why_not


@pytest.mark.training
@pytest.mark.skipif("UPAYA_TWO_HOSTS" not in os.environ, reason="takes ten minutes: UPAYA_TWO_HOSTS=1 runs it")
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_the_stages_over_two_hosts(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "project", symlinks=True)
    walk(tmp_path, "project", zero=3)

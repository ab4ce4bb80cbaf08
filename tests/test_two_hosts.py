"""The stages over two hosts, which are namespaces of this machine (bench/two_hosts.py)."""

import shutil
from pathlib import Path

import pytest

from bench.two_hosts import walk, why_not


@pytest.mark.training
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_the_stages_over_two_hosts(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "project", symlinks=True)
    walk(tmp_path, "project", zero=3)

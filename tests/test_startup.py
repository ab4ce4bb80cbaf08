"""What looks at things starts in a blink: nothing that does not compute imports torch."""

import subprocess
import sys

import pytest
from conftest import ROOT

RUN = """
import sys
from upaya.errors import UserError
sys.argv = {argv!r}
try:
    {call}
except (SystemExit, UserError) as ended:
    print("ended:", ended)
print("imported:", *[name for name in ("torch", "transformers", "mlflow", "deepspeed") if name in sys.modules])
"""


def imported(argv: list[str], call: str) -> tuple[str, list[str]]:
    """(what a program says, the heavy libraries that it has imported at its end)."""
    program = RUN.format(argv=argv, call=call)
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    said, _, names = found.stdout.rpartition("imported:")
    return said + found.stderr, names.split()


@pytest.mark.parametrize("command", [["--help"], ["plan"], ["show", "nobody"], ["compare"]], ids=lambda words: words[0])
def test_looking_imports_no_torch(command: list[str]) -> None:
    said, names = imported(["upaya", *command], "from upaya.cli import main; main()")
    assert names == [], said


def test_a_refused_parameter_file_imports_no_torch() -> None:
    call = (
        "import pathlib, upaya.declared.curricula as c\n"
        "    read = c.load_yaml\n"
        "    c.load_yaml = lambda path, model: read(path, model).model_copy(update={'model': 'tyni'})\n"
        "    from tasks.__main__ import main; main(['grpo', 'lenient'])"
    )
    said, names = imported(["tasks"], call)
    assert "did you mean 'tiny'" in said and names == []


@pytest.mark.training
def test_importing_switches_nothing_on() -> None:
    """Torch's switches, the environment and sys.modules are as they were when a module of ours has been imported."""
    call = (
        "import os, torch; before = dict(os.environ)\n"
        "    import upaya.policy.model, upaya.training.grpo.loop, upaya.sampling.decoding, upaya.tracking.tracker\n"
        "    assert not torch.are_deterministic_algorithms_enabled() and before == dict(os.environ)\n"
        "    assert sys.modules.get('deepspeed', 1) is not None\n"
        "    import gc; from upaya.startup import start; start()\n"
        "    assert torch.are_deterministic_algorithms_enabled()\n"
        "    assert gc.isenabled() and torch.distributed.is_available()\n"
        "    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'\n"
        "    print('nothing')"
    )
    assert "nothing" in imported(["tasks"], call)[0]

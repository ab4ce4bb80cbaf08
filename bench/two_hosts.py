"""Two hosts on one machine: the training stages through DeepSpeed's launcher, pdsh and ssh, stopped and cut off.

python -m bench.two_hosts --zero 1 --zero 3       # as root; needs what `make run` builds: questions, policies/base

Each host has namespaces of its own for network, processes, names and mounts, with an address, a host key, an sshd and
a /tmp; between them lies a pair of virtual cards, and nothing leads elsewhere. What they share is the folder of a
project, at the same path. Nothing of it outlives this program, however that ends: a host's first process ends with it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
import yaml

from tasks import line
from upaya.errors import UserError, shown_to_user
from upaya.files import sha256_tree

NAMES = ("node-1", "node-2")
ADDRESSES = ("10.213.0.1", "10.213.0.2")
SHARED = Path("/mnt")  # where both hosts see the shared folder
TOOLS = ("unshare", "nsenter", "ip", "mount", "sshd", "ssh", "ssh-keygen", "pdsh")
LONG = 300.0  # seconds: of what hangs, not of what is slow
DECLARED = line.SECONDS_UNHEARD + 2 * line.SECONDS_OF_GRACE + 30  # until a stage has ended whose node was cut off
# The first process of a host: it ends, and with it the host, when its input does.
HOST = """
set -e
hostname "$1"
mount --bind "$2" /mnt
mount --bind "$3/hosts" /etc/hosts
mount --bind "$3/$1" /etc/ssh
if [ -d ~/.ssh ]; then mount --bind "$3/empty" ~/.ssh; fi
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
mount -t tmpfs tmpfs /tmp
ip link set lo up
"$(command -v sshd)" -f /etc/ssh/sshd_config -E /etc/ssh/log
echo ready
cat
"""


def why_not() -> str | None:
    """Why this machine cannot have two hosts; None where it can."""
    if Path(sys.prefix).resolve().is_relative_to("/tmp"):
        return "the environment is in /tmp, of which each host has its own"
    if os.geteuid():
        return "two hosts on one machine take root, for network namespaces"
    missing = [tool for tool in TOOLS if not _path_of(tool)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"namespaces are not to be had here: {tried.stderr.strip()}" if tried.returncode else None


def _path_of(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@dataclass(frozen=True)
class Host:
    """Attributes: process: the first of its process namespace, as this machine counts."""

    name: str
    process: int

    def command(self, *command: str) -> list[str]:
        """A command on this host."""
        return ["nsenter", f"--target={self.process}", "--net", "--uts", "--ipc", "--mount", "--pid", "--", *command]

    def run(self, *command: str) -> None:
        subprocess.run(self.command(*command), check=True)

    def link(self, state: str) -> None:
        """Pull the network's cable, or put it back. Args: state: "up" or "down"."""
        self.run("ip", "link", "set", "wire", state)

    def processes(self) -> list[psutil.Process]:
        """Of those at work on this host, the Python ones: launchers, stage and ranks."""
        own, found = Path(f"/proc/{self.process}/ns/pid").readlink(), []
        for process in psutil.process_iter():
            try:
                there = Path(f"/proc/{process.pid}/ns/pid").readlink() == own
                if there and process.status() != psutil.STATUS_ZOMBIE and "python" in process.name():
                    found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def ranks(self) -> list[psutil.Process]:
        return [process for process in self.processes() if "RANK" in process.environ()]


@contextmanager
def two_hosts(shared: Path) -> Iterator[list[Host]]:
    """Two hosts that see a folder as SHARED and reach each other by ssh, for as long as this lasts."""
    with tempfile.TemporaryDirectory(prefix="upaya-hosts-") as folder:
        _write_ssh(Path(folder))
        first: list[subprocess.Popen[str]] = []
        try:
            for name in NAMES:
                unshare = ["unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--mount-proc"]
                started = subprocess.Popen(
                    [*unshare, "sh", "-c", HOST, "sh", name, str(shared), folder],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                    env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
                )  # fmt: skip
                first.append(started)
                if not started.stdout or started.stdout.readline() != "ready\n":
                    raise UserError(f"{name} did not start; its message stands above")
            hosts = [
                Host(name, psutil.Process(each.pid).children()[0].pid) for name, each in zip(NAMES, first, strict=True)
            ]
            ends = [f"netns {host.process} name wire".split() for host in hosts]
            subprocess.run(["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]], check=True)
            for host, address in zip(hosts, ADDRESSES, strict=True):
                host.run("ip", "address", "add", f"{address}/24", "dev", "wire")
                host.link("up")
            yield hosts
        finally:
            for each in first:
                assert each.stdin
                each.stdin.close()
                each.wait()


def _write_ssh(folder: Path) -> None:
    """Each host's own /etc/ssh, and the table of names: who is at home where, and who is let in."""
    (folder / "hosts").write_text(
        "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in zip(NAMES, ADDRESSES, strict=True))
    )
    (folder / "empty").mkdir()
    for name in (*NAMES, "client"):
        (folder / name).mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name / "key"], check=True)
    public = [(folder / name / "key.pub").read_text() for name in NAMES]
    known = "".join(f"{name} {key}" for name, key in zip(NAMES, public, strict=True))
    for name in NAMES:
        own = folder / name
        shutil.copy(folder / "client/key", own / "client_key")
        shutil.copy(folder / "client/key.pub", own / "authorized_keys")
        (own / "known_hosts").write_text(known)
        (own / "ssh_config").write_text(
            "Host *\nIdentityFile /etc/ssh/client_key\nGlobalKnownHostsFile /etc/ssh/known_hosts\n"
            "UserKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nBatchMode yes\n"
        )
        (own / "sshd_config").write_text(
            "HostKey /etc/ssh/key\nAuthorizedKeysFile /etc/ssh/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\n"
        )


class Stage:
    """A training stage at work on the first host, over both."""

    def __init__(self, hosts: Sequence[Host], project: Path, *arguments: str) -> None:
        """Args: project: its folder, directly in the shared one."""
        self.hosts, self.project = hosts, project
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it ends with the stage
        go = f"cd {SHARED / project.name} && exec {sys.executable} -m tasks {' '.join(arguments)}"
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PYTHON"))}
        self._nsenter = subprocess.Popen(
            hosts[0].command("sh", "-c", go), env=env | {"MLFLOW_TRACKING_URI": ""}, stdout=self.log, stderr=self.log
        )

    def said(self) -> str:
        self.log.flush()
        return os.pread(self.log.fileno(), 10**7, 0).decode(errors="replace")

    def signal(self, number: int) -> None:
        """To the stage's own process, and nobody else."""
        for stage in psutil.Process(self._nsenter.pid).children():
            stage.send_signal(number)

    def until_step(self, step: int) -> None:
        """Raises UserError where the stage ends before."""
        begun = time.monotonic()
        while _steps(self.project / ".upaya/work/lenient/history.jsonl") < step:
            _need(self._nsenter.poll() is None and time.monotonic() - begun < LONG, f"it went on\n{self.said()}")
            time.sleep(0.05)

    def ends(self, seconds: float = LONG) -> int:
        """Its exit code, within some seconds, with nobody left of it on either host some seconds later."""
        try:
            code = self._nsenter.wait(seconds)
        except subprocess.TimeoutExpired:
            raise UserError(f"it did not end within {seconds:.0f} s\n{self.said()}") from None
        until = time.monotonic() + line.SECONDS_OF_GRACE + 10
        while (left := [each for host in self.hosts for each in host.processes()]) and time.monotonic() < until:
            time.sleep(0.1)
        _need(not left, f"nobody was left, but {left} are\n{self.said()}")
        return code


def walk(folder: Path, name: str, zero: int) -> list[str]:
    """Warm-up and GRPO over two hosts: undisturbed; killed, cut off, stopped and resumed, to the same bytes.

    Args:
        folder: to be shared. In it, under `name`, is a project with questions and policies/base, which is changed.

    Returns:
        What was seen, in lines. Raises UserError where something else was.
    """
    project, seen = folder / name, []
    declare(project, zero)

    def see(what: str, begun: float) -> None:
        seen.append(f"ZeRO {zero}: {what} ({time.monotonic() - begun:.0f} s)")
        print(seen[-1], flush=True)

    def work(*arguments: str) -> Stage:
        return Stage(hosts, project, *arguments)

    with two_hosts(folder) as hosts:
        begun = time.monotonic()
        warmup = work("warmup")
        _need(warmup.ends() == 0, f"warm-up went through\n{warmup.said()}")
        see("warm-up trains, rolls out and publishes", begun)

        begun = time.monotonic()
        stage = work("grpo", "lenient")
        _need(stage.ends() == 0, f"GRPO went through\n{stage.said()}")
        whole = sha256_tree(project / "policies/lenient")
        shutil.rmtree(project / "policies/lenient")
        see("GRPO undisturbed", begun)

        stage = work("grpo", "lenient")
        stage.until_step(5)
        begun = time.monotonic()
        for rank in hosts[1].ranks():
            rank.kill()
        _need(stage.ends(DECLARED) == 1, stage.said())
        _need("process 2 of 2 (on node-2) ended without a word" in stage.said(), stage.said())
        see("the second node's processes killed: the stage says so and ends, nobody is left", begun)

        stage = work("grpo", "lenient")
        stage.until_step(14)
        _need("resumed at step" in stage.said(), stage.said())
        begun = time.monotonic()
        hosts[1].link("down")
        _need(stage.ends(DECLARED) == 1, stage.said())
        _need("process 2 of 2 (on node-2) has not been heard of" in stage.said(), stage.said())
        see("the second node cut off: the stage says so and ends, nobody is left on either", begun)
        hosts[1].link("up")

        stage = work("grpo", "lenient")
        stage.until_step(23)
        begun = time.monotonic()
        stage.signal(signal.SIGTERM)
        _need(stage.ends() == 128 + signal.SIGTERM, stage.said())
        _need(stage.said().count("stopped by SIGTERM; lenient is saved at step") == 1, stage.said())
        see("SIGTERM to the stage: one checkpoint, both nodes end", begun)

        begun = time.monotonic()
        stage = work("grpo", "lenient")
        _need(stage.ends() == 0, stage.said())
        _need(sha256_tree(project / "policies/lenient") == whole, "the resumed policy had the undisturbed one's bytes")
        see("resumed to the end: the same bytes as undisturbed", begun)
    return seen


def _steps(history: Path) -> int:
    """How many steps a history tells of, the last of which may be half written."""
    lines = history.read_text().split("\n")[:-1] if history.is_file() else []
    return max((json.loads(line)["step"] for line in lines), default=0)


def _need(true: bool, otherwise: str) -> None:
    if not true:
        raise UserError(f"it was expected that {otherwise}" if "\n" not in otherwise[:80] else otherwise)


def declare(project: Path, zero: int, steps: int = 40) -> None:
    """The hostfile in its shipped form, a launch over it, and settings of a minute."""
    (project / "params/launch/two.hostfile").write_text("".join(f"{name} slots=1\n" for name in NAMES))
    launch = {"processes": 2, "zero": zero, "threads": 1, "hostfile": "params/launch/two.hostfile"}
    (project / "params/launch/two.yaml").write_text(yaml.safe_dump(launch))
    path = project / "params/curricula.yaml"
    said = yaml.safe_load(path.read_text())
    said["launch"] = "two"
    said["sampling"]["max_new_tokens"] = 24
    said["warmup"] |= {"max_steps": 4, "batch_size": 4}
    said["warmup"]["until"] |= {"every": 2, "questions": 4, "samples": 2}
    said["grpo"] |= {"budget": steps, "prompts": 4, "group_size": 4, "checkpoint_every": 3}
    said["grpo"]["dead_groups"] = {"type": "drop"}  # every step is an update
    said["grpo"]["validation"] = {"every": 5, "questions": 4}
    said["policies"]["lenient"]["max_steps"] = steps
    path.write_text(yaml.safe_dump(said, allow_unicode=True, sort_keys=False))


def main(zero: Annotated[list[int], typer.Option(help="stages of ZeRO")] = [1, 3]) -> None:  # noqa: B006 - typer's way
    """Try the stages over two hosts, on a copy of this checkout."""
    if reason := why_not():
        raise UserError(reason)
    if not Path("policies/base").is_dir():
        raise UserError("no policies/base: the bench takes questions and base model from the default curriculum")
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    for stage in zero:
        with tempfile.TemporaryDirectory(prefix="upaya-shared-") as folder:
            for file in filter(lambda file: Path(file).is_file(), files):
                (Path(folder) / "project" / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, Path(folder) / "project" / file)
            for each in ("questions", "policies/base"):
                shutil.copytree(each, Path(folder) / "project" / each, dirs_exist_ok=True)
            walk(Path(folder), "project", stage)


if __name__ == "__main__":
    with shown_to_user():
        typer.run(main)

"""A real MLflow server, started and killed as a test wants it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from conftest import activated


class Server:
    """A server on a port of its own. Args: folder: for its log and, where no store is named, for its store."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.folder, self.store = folder, store or f"sqlite:///{folder}/server.db"
        self.process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.store,
             "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"],
            # (its workers for jobs that nobody gives them take longer to start than the server)
            cwd=self.folder, env=activated(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

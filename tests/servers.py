"""A real MLflow server in a process of its own, which can be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 180


class Server:
    """``mlflow server`` on a free port of this machine, with SQLite and artifacts in ``folder``."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.url = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the same port and store as before, and wait until it answers."""
        store = f"sqlite:///{self.folder / 'mlflow.db'}"
        kept = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
                    *("--port", str(self.port), "--backend-store-uri", store),
                    *("--artifacts-destination", str(self.folder / "artifacts")),
                ],
                cwd=self.folder,
                env={**kept, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # seven processes fewer
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            gone = self.process.poll() is not None or time.monotonic() > deadline
            assert not gone, (self.folder / "server.log").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill it with its workers, as a failing machine would."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """A server that answers, and is gone after the block."""
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()

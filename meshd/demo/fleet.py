"""Real `meshd run` processes on this machine: started, killed, started again.

Everything stays on 127.0.0.1, mDNS included. Each daemon has a state folder of its own; all share one fresh mesh key and one
cache folder, so that a kernel is compiled once. Nobody is told of anybody: they find each other.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from meshd.client.admin import Admin
from meshd.errors import UnavailableError
from meshd.net.key import MeshKey

STOP_S = 15.0
"""A daemon drains for at most 10 s; then it is killed."""


class Daemon:
    """One process. `folder` survives it; so does the node's identity."""

    def __init__(self, name: str, folder: Path, flags: list[str]) -> None:
        self.name, self.folder, self._flags = name, folder, flags
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def admin_socket(self) -> Path:
        """For `client.admin`."""
        return self.folder / "run" / "admin.sock"

    @property
    def client_target(self) -> str:
        """For inference clients of this machine."""
        return f"unix:{self.folder / 'run' / 'client.sock'}"

    @property
    def running(self) -> bool:
        """The process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, or start again; its log goes on in `log`."""
        for socket in (self.folder / "run").glob("*.sock"):
            socket.unlink()  # A killed daemon leaves its sockets; without them we know when the new one listens.
        command = [sys.executable, "-m", "meshd", "run", "--name", self.name, "--state-dir", str(self.folder)]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen([*command, *self._flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL: as if the plug were pulled."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to drain and stop."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = STOP_S) -> None:
        """Until it is gone; killed when the time is up."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def admin(self, timeout_s: float = 20.0) -> Admin:
        """Its admin API. Raises UnavailableError with the end of its log if it ended."""
        if not self.running:
            raise UnavailableError(f"{self.name} ended by itself; its log says:\n{self.tail()}")
        return Admin(self.admin_socket, timeout_s)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        with suppress(OSError):
            return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"


class Fleet:
    """Some daemons of one fresh mesh; a context manager that leaves nothing behind.

    Parameters
    ----------
    nodes : how many
    keep : a folder to use and leave, for looking at logs; a temporary one that is removed otherwise
    cache : where compiled kernels and measured rates are kept
    """

    def __init__(self, nodes: int, cache: Path, keep: Path | None = None) -> None:
        self._temporary = keep is None
        self.folder = keep or Path(tempfile.mkdtemp(prefix="meshd-demo-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        key = self.folder / "mesh.key"
        MeshKey.new().save(key, replace=True)
        ports = [f"--{name}-port=0" for name in ("gossip", "grpc", "http", "metrics")]
        flags = ["--mesh-key", str(key), "--cache-dir", str(cache), "--bind", "127.0.0.1", *ports]
        self.daemons: list[Daemon] = []
        for number in range(1, nodes + 1):
            home = self.folder / f"n{number}"
            home.mkdir(exist_ok=True)
            self.daemons.append(Daemon(f"n{number}", home, flags))

    def __enter__(self) -> "Fleet":
        for daemon in self.daemons:
            daemon.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for daemon in self.daemons:
            daemon.terminate()
        for daemon in self.daemons:
            daemon.wait()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)


def cache_folder() -> Path:
    """Shared by all daemons of a demo, and kept for the next one."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "meshd"

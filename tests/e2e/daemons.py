"""Real `meshd run` processes on the loopback of this machine, each in a folder of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from meshd.client.admin import Admin
from meshd.daemon import rates
from meshd.errors import UnavailableError

READY_S = 30.0


def cache_with_rates(folder: Path, share: float = 1.0) -> Path:
    """A cache folder in which this machine was measured already, by made-up numbers: no child compiles beside a test.

    `share` of a core is what they tell of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_up = {"binary": 600_000_000_000, "dense": 40_000_000_000, "int8": 900_000_000, "memory": 40_000_000_000,
               "sparse": 15_000_000_000, "steps": 1_000_000}  # fmt: skip
    mine = {kind: int(rate * share) for kind, rate in made_up.items()}
    told = {"key": rates._key(), "rates": mine, "numeric": "fma", "forms": True}
    (folder / "rates.json").write_text(json.dumps(told))
    return folder


class Daemon:
    """One daemon; a context manager that leaves no process behind.

    Parameters
    ----------
    folder : its state; the log is `folder/log`
    cache : shared by daemons of one test
    prefix : words before its command line (`Relay.prefix`: it then runs on that host)
    program : module that is run as `meshd`
    flags : more flags of `meshd run`, by key (`seeds="127.0.0.1:7946"`)
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        program: str = "meshd",
        **flags: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, folder.name
        given = {
            "state_dir": str(folder), "cache_dir": str(cache), "runtime_dir": str(folder / "run"), "name": folder.name,
            "bind": "127.0.0.1", "gossip_port": "0", "grpc_port": "0", "http_port": "0", "metrics_port": "0",
            "memory_max": "256MiB", "log_level": "debug", **flags,
        }  # fmt: skip
        self._words = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
        self._prefix, self._program = prefix, program
        self._environ = {**os.environ, "OMP_NUM_THREADS": "1", **(environ or {})}
        self.socket = folder / "run" / "admin.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Daemon":
        """Start the process; `ready` waits for it."""
        with open(self.folder / "log", "ab") as log:
            words = [*self._prefix, sys.executable, "-X", "faulthandler", "-m", self._program, "run", *self._words]
            self.process = subprocess.Popen(words, stderr=log, stdout=log, env=self._environ)
        return self

    def ready(self) -> "Daemon":
        """Wait until it answers."""
        until = time.monotonic() + READY_S
        while True:
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.log()}"
            try:
                with self.admin() as admin:
                    admin.status()
                return self
            except UnavailableError:
                assert time.monotonic() < until, f"{self.name} does not answer:\n{self.log()}"
                time.sleep(0.1)

    def admin(self) -> Admin:
        """Its admin API."""
        return Admin(self.socket)

    def wait_nodes(self, count: int, timeout_s: float = 20) -> None:
        """Wait until it sees so many nodes alive, itself included."""
        from meshd.v1.gossip_pb2 import MEMBER_STATE_ALIVE

        with self.admin() as admin:
            admin.wait(
                lambda status: sum(node.state == MEMBER_STATE_ALIVE for node in status.nodes) == count,
                timeout_s,
                f"{self.name}: {count} nodes alive",
            )

    def address(self, role: str) -> str:
        """Where it listens."""
        with self.admin() as admin:
            return next(each.address for each in admin.status().listeners if each.role == role)

    def log(self) -> str:
        """What it said so far."""
        return (self.folder / "log").read_text()[-6000:]

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 20) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def __enter__(self) -> "Daemon":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

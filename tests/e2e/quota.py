"""A process made slow: a CPU quota by the kernel's cgroups, or, where those cannot be had, stopped most of the time.

Rule: what was asked for is in force, or `Quota` raises: a slow node that is not slow proves nothing.
"""

import contextlib
import itertools
import os
import signal
import threading
import time
from pathlib import Path
from types import TracebackType

PERIOD_US = 100_000
CYCLE_S = 0.1
_ROOT = Path("/sys/fs/cgroup")
_numbers = itertools.count(1)


class Quota:
    """A context manager: `share` of one core for `pid` and what it starts from now on.

    `kind` tells which it is: `cgroup2`, `cgroup1` or `stopped` (SIGSTOP and SIGCONT by turns, ten times a second).
    """

    def __init__(self, pid: int, share: float) -> None:
        self._pid, self._share = pid, share
        self._name = f"meshd-test-{os.getpid()}-{next(_numbers)}"
        self._group: Path | None = None
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self.kind = ""

    def __enter__(self) -> "Quota":
        quota_us = int(self._share * PERIOD_US)
        for kind, home, limit in (
            ("cgroup2", _ROOT, {"cpu.max": f"{quota_us} {PERIOD_US}"}),
            ("cgroup1", _ROOT / "cpu", {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}),
        ):
            if self._limited(home / self._name, limit):
                self.kind = kind
                return self
        self.kind = "stopped"
        self._thread = threading.Thread(target=self._cycle, daemon=True)
        self._thread.start()
        return self

    def _limited(self, group: Path, limit: dict[str, str]) -> bool:
        """Whether the kernel took it and says the same when asked."""
        try:
            group.mkdir()
            self._group = group
            for name, value in limit.items():
                # A file that does not exist is not a limit: cgroup folders take none, tmpfs would.
                assert (group / name).exists(), f"{group} has no {name}"
                (group / name).write_text(value)
            (group / "cgroup.procs").write_text(str(self._pid))
            return all((group / name).read_text().strip() == value for name, value in limit.items())
        except (OSError, AssertionError):
            with contextlib.suppress(OSError):
                group.rmdir()
            self._group = None
            return False

    def _cycle(self) -> None:
        while not self._end.is_set():
            for number, seconds in ((signal.SIGCONT, self._share), (signal.SIGSTOP, 1 - self._share)):
                try:
                    os.kill(self._pid, number)
                except ProcessLookupError:
                    return
                time.sleep(seconds * CYCLE_S)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        if self._group is not None:
            with contextlib.suppress(OSError):
                for pid in (self._group / "cgroup.procs").read_text().split():
                    (self._group.parent / "cgroup.procs").write_text(pid)
            with contextlib.suppress(OSError):
                self._group.rmdir()

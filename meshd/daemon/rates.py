"""What this device's kernels do a second: measured once, by a child process, and kept on disk.

`python -m meshd.daemon.rates FOLDER` prints the rates as JSON, measuring them if FOLDER has none for this CPU, meshd and
numba. Then, where that has not been done, it measures the forms of sparse layers (`kernels.forms`), for processes that come
later: a dozen kernels to compile, for which no plan need wait.

A child, because compiling and timing must neither stop the driver nor leave 60 MB of numba in a node that only routes;
started before any gRPC object exists, because forking after that is not safe.

Rule 1: one measurement at a time on a host (a lock in the temporary folder): four daemons at once would measure each other.
Rule 2: a failed measurement makes a node without rates, which plans leave out; never one that does not start.
"""

import fcntl
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import trio

from meshd import __version__
from meshd.config import RATES_MAX

log = logging.getLogger(__name__)

TIMEOUT_S = 300.0
"""Cold caches on a slow board: a minute or two of compiling."""

NICE = 10
"""Forms are measured while the node works; the best of many short runs is found all the same."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates by cost class (multiply-accumulates a second, bytes a second for `memory`), and the numeric class."""

    rates: tuple[tuple[str, int], ...] = ()
    numeric: str = "numpy"


class Measuring:
    """The child that measures. Made before any gRPC object."""

    def __init__(self, cache_dir: Path) -> None:
        words = [sys.executable, "-m", "meshd.daemon.rates", str(cache_dir)]
        self._child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, text=True
        )

    async def result(self) -> Measured:
        """Wait for the child's rates. When cancelled, the child goes on until `stop`."""
        assert self._child.stdout is not None
        try:
            with trio.fail_after(TIMEOUT_S):
                said = await trio.to_thread.run_sync(self._child.stdout.readline, abandon_on_cancel=True)
            return parse(said)
        except (trio.TooSlowError, ValueError, OSError) as error:
            log.error("this device could not be measured: %s; plans leave this node out until it is restarted", error)
            return Measured()

    async def ended(self) -> None:
        """Wait for the child's end, so that no zombie stays for as long as the node runs."""
        await trio.to_thread.run_sync(self._child.wait, abandon_on_cancel=True)

    def stop(self) -> None:
        """End the child, if it still runs."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()


def parse(said: str) -> Measured:
    """Read what the child prints. Raises ValueError."""
    told = json.loads(said or '{"nothing": true}')
    rates, numeric = told.get("rates"), told.get("numeric")
    if not isinstance(rates, dict) or not isinstance(numeric, str) or len(rates) > RATES_MAX:
        raise ValueError("the measuring child failed; see the log above")
    if not all(isinstance(rate, int) and rate > 0 for rate in rates.values()):
        raise ValueError(f"rates must be positive whole numbers, not {rates}")
    return Measured(tuple(sorted(rates.items())), numeric)


def _key() -> str:
    try:
        numba = version("numba")
    except PackageNotFoundError:
        numba = "none"
    return f"{_cpu()}; meshd {__version__}; numba {numba}; {len(os.sched_getaffinity(0))} cores"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    said = {line.split(":", 1)[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
    words = [said.get(name, "") for name in ("model name", "CPU implementer", "CPU part", "Model")]
    return f"{platform.machine()} {' '.join(word for word in words if word)}"


def main(folder: Path) -> None:
    """Print the rates, measuring them if need be; then see to it that the forms are measured."""
    place, key = folder / "rates.json", _key()
    kept = _kept(place, key)
    if kept is None:
        with _lock("rates", fcntl.LOCK_EX):
            if (kept := _kept(place, key)) is None:  # Another daemon may have measured while we waited.
                from meshd.engine.measure import rates

                found = rates()
                kept = {"key": key, "rates": dict(found.rates), "numeric": found.numeric}
                _keep(place, kept)
    print(json.dumps(kept), flush=True)
    if kept.get("forms"):
        return
    with suppress(BlockingIOError), _lock("forms", fcntl.LOCK_EX | fcntl.LOCK_NB):  # One is enough.
        if (kept := _kept(place, key) or kept).get("forms"):
            return
        from meshd.engine.measure import forms

        os.nice(NICE)
        forms()
        _keep(place, {**kept, "forms": True})


@contextmanager
def _lock(what: str, how: int) -> Iterator[None]:
    with open(Path(tempfile.gettempdir()) / f"meshd-measure-{what}-{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, how)
        yield


def _keep(place: Path, told: dict[str, Any]) -> None:
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        coming = place.with_suffix(f".{os.getpid()}")
        coming.write_text(json.dumps(told))
        os.replace(coming, place)
    except OSError as error:
        print(f"rates are not kept: {error}", file=sys.stderr)


def _kept(place: Path, key: str) -> dict[str, Any] | None:
    """What the file says, if it is of this key."""
    try:
        text = place.read_text()
        parse(text)
        told: dict[str, Any] = json.loads(text)
    except (OSError, ValueError, KeyError):
        return None
    return told if told.get("key") == key else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))

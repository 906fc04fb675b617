"""What this device's kernels do a second: measured once, by a child process, and kept on disk.

`python -m meshd.daemon.rates FOLDER` prints the rates as JSON, measuring them if FOLDER has none for this CPU, meshd and
numba. A child, because compiling and timing must neither stop the driver nor leave 60 MB of numba in a node that only
routes; started before any gRPC object exists, because forking after that is not safe.

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
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import trio

from meshd import __version__
from meshd.config import RATES_MAX

log = logging.getLogger(__name__)

TIMEOUT_S = 300.0
"""Cold caches on a slow board: a minute or two of compiling."""


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
        """Wait for the child. When cancelled, the child goes on until `stop`."""
        try:
            said, _ = await trio.to_thread.run_sync(
                lambda: self._child.communicate(timeout=TIMEOUT_S), abandon_on_cancel=True
            )
            return parse(said)
        except (subprocess.TimeoutExpired, ValueError, OSError) as error:
            log.error("this device could not be measured: %s; plans leave this node out until it is restarted", error)
            return Measured()

    def stop(self) -> None:
        """End the child, if it still runs."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()


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
    """Print the rates, measuring them if need be."""
    place, key = folder / "rates.json", _key()
    if (kept := _kept(place, key)) is not None:
        print(kept)
        return
    with open(Path(tempfile.gettempdir()) / f"meshd-measure-{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (kept := _kept(place, key)) is None:  # Another daemon may have measured while we waited.
            from meshd.engine.measure import rates

            found = rates()
            kept = json.dumps({"key": key, "rates": dict(found.rates), "numeric": found.numeric})
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                coming = place.with_suffix(f".{os.getpid()}")
                coming.write_text(kept)
                os.replace(coming, place)
            except OSError as error:
                print(f"rates are not kept: {error}", file=sys.stderr)
        print(kept)


def _kept(place: Path, key: str) -> str | None:
    """The file's text, if it is of this key."""
    try:
        text = place.read_text()
        parse(text)
        return text if json.loads(text)["key"] == key else None
    except (OSError, ValueError, KeyError):
        return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))

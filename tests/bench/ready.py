"""How soon a daemon with a warm cache is READY, and how soon its kernels are loaded and it serves what it served before.

usage: python -m tests.bench.ready [TIMES]   (one node with the demo's model, stopped and started again; under 2 s is the aim)
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from meshd.demo import model
from meshd.v1 import admin_pb2 as pb
from tests.e2e.daemons import Daemon, cache_with_rates

SERVED_S = 120.0
LIMIT_S = 2.0
LOOK_S = 0.02


def _serves(status: pb.Status) -> bool:
    parts = [part for each in status.deployments if each.HasField("serving") for part in each.serving.segments]
    return bool(parts) and all(part.candidates for part in parts)


def _wait(daemon: Daemon) -> None:
    """Until it serves: looked for often, where `Admin.wait` waits for what changed."""
    until = time.monotonic() + SERVED_S
    while True:
        with daemon.admin() as admin:
            if _serves(admin.status()):
                return
        assert time.monotonic() < until, daemon.log()
        time.sleep(LOOK_S)


def _ready(daemon: Daemon) -> None:
    while " ready: " not in daemon.log():
        assert daemon.process is not None
        assert daemon.process.poll() is None, daemon.log()
        time.sleep(LOOK_S)


def main(times: int) -> None:
    """Serve once, so that all kernels are compiled; then start again and again."""
    prepared = model.load().bundle
    with tempfile.TemporaryDirectory() as folder:
        place, cache = Path(folder), cache_with_rates(Path(folder) / "cache")
        with Daemon(place / "n", cache) as daemon:
            with daemon.ready().admin() as admin:
                digest = admin.push(prepared.topology, prepared.blobs)
                admin.deploy("demo", digest, pb.DeployPolicy())
            _wait(daemon)
            daemon.stop()
        ready, loaded = [], []
        for _ in range(times):
            (place / "n" / "log").unlink()
            begun = time.monotonic()
            with Daemon(place / "n", cache) as daemon:
                _ready(daemon)
                ready.append(time.monotonic() - begun)
                daemon.ready()
                _wait(daemon)
                loaded.append(time.monotonic() - begun)
                daemon.stop()
    for name, found in (("READY", ready), ("kernels loaded and serving", loaded)):
        middle = statistics.median(found)
        print(
            f"{name}: median {middle:.2f} s, {min(found):.2f} to {max(found):.2f}; {'under' if middle < LIMIT_S else 'OVER'} 2 s"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

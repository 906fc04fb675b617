"""A mesh of five under a steady load for as long as one likes, a kill a minute: `python -m tests.e2e.soak --minutes M [-o json]`.

What must stay flat, of each daemon that lives through it: memory, threads, open files, and what waits (requests, payloads,
inputs). A line fitted through the samples after the first quarter (caches fill) may rise by at most `RISE_MAX` of its middle.
Needs root and /dev/net/tun.

Rule: the victims are always the same two; what the others use is then of one process from the first sample to the last.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from meshd.demo import model
from tests.e2e.five import HOSTS, SLOW, Five
from tests.e2e.steady import Steady, percentile

EVERY_S, KILL_EVERY_S, DOWN_S = 5.0, 60.0, 10.0
RISE_MAX = 0.1
GAUGES = {
    "meshd_requests_in_flight": "in_flight", "meshd_requests_payloads_kept": "payloads_kept", "meshd_driver_inbox": "inbox",
}  # fmt: skip
SMALL = {"memory_kib": 4_096.0, "threads": 16.0, "files": 8.0, "in_flight": 8.0, "payloads_kept": 8.0, "inbox": 16.0}
"""A rise of less is none, whatever share of the middle it is. The client server's pool of 64 threads grows with the worst burst
so far, which a kill makes, and keeps them."""


def sample(five: Five, host: int) -> dict[str, float]:
    """What a daemon uses now."""
    daemon = five.daemons[host]
    assert daemon.process is not None
    home = Path("/proc", str(daemon.process.pid))
    told = dict(line.split(":", 1) for line in (home / "status").read_text().splitlines())
    used = {
        "memory_kib": float(told["VmRSS"].split()[0]),
        "threads": float(told["Threads"]),
        "files": float(len(list((home / "fd").iterdir()))),
    }
    return used | dict(_gauges(five.metrics(host)))


def _gauges(text: str) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name in GAUGES:
            yield GAUGES[name], float(value)


def rise(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """(middle, what a fitted line rises from the first quarter's end to the end)."""
    later = [(t, v) for t, v in zip(times, values, strict=True) if t >= times[0] + (times[-1] - times[0]) / 4]
    xs, ys = np.array([t for t, _ in later]), np.array([v for _, v in later])
    slope = float(np.polyfit(xs, ys, 1)[0]) if len(xs) > 2 else 0.0
    return float(median(ys)), slope * float(xs[-1] - xs[0])


def judge(
    samples: Mapping[int, Sequence[tuple[float, dict[str, float]]]],
) -> dict[str, dict[str, dict[str, float | bool]]]:
    """Host → kind → its middle, its rise, and whether that is flat."""
    told: dict[str, dict[str, dict[str, float | bool]]] = {}
    for host, taken in samples.items():
        rows: dict[str, dict[str, float | bool]] = {}
        for kind, least in SMALL.items():
            times = [at for at, values in taken if kind in values]
            values = [values[kind] for _, values in taken if kind in values]
            if len(values) < 4:
                continue
            middle, rose = rise(times, values)
            is_flat = rose <= max(RISE_MAX * middle, least)
            rows[kind] = {"middle": round(middle, 1), "rise": round(rose, 1), "flat": is_flat}
        told[f"h{host}"] = rows
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=25.0, help="requests a second")
    parser.add_argument("-o", dest="output", choices=("table", "json"), default="table")
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshd-soak-")))
        five = stack.enter_context(Five(folder))
        victims = [host for host in HOSTS if host not in (five.entry, SLOW)][:2]
        watched = [host for host in HOSTS if host not in victims]
        samples: dict[int, list[tuple[float, dict[str, float]]]] = {host: [] for host in watched}
        with Steady([five.target(five.entry)], model.NAME, five.demo.sample, given.rate) as load:
            begun, kills, down = time.monotonic(), 0, 0
            while (passed := time.monotonic() - begun) < given.minutes * 60:
                if passed > KILL_EVERY_S * (kills + 1) and not down:
                    down = victims[kills % 2]
                    five.daemons[down].kill()
                    kills += 1
                elif down and passed > KILL_EVERY_S * kills + DOWN_S:
                    five.start(down)
                    down = 0
                for host in watched:
                    samples[host].append((passed, sample(five, host)))
                time.sleep(EVERY_S)
        sent = load.sent
    told = judge(samples)
    failed = [each for each in sent if each.code or each.wrong]
    figures = {
        "minutes": given.minutes, "rate": given.rate, "kills": kills, "requests": len(sent), "failed": len(failed),
        "p50_ms": round(percentile(sent, 50), 1), "p99_ms": round(percentile(sent, 99), 1),
    }  # fmt: skip
    if given.output == "json":
        print(json.dumps({"apiVersion": "meshd/v1", "kind": "SoakReport", **figures, "hosts": told}))
    else:
        print(", ".join(f"{name} {value}" for name, value in figures.items()))
        for host, rows in told.items():
            for kind, row in rows.items():
                mark = "" if row["flat"] else "  NOT FLAT"
                print(f"{host} {kind:14} middle {row['middle']:>10}  rise {row['rise']:>8}{mark}")
        for each in failed[:5]:
            print(f"FAILED {each.code} after {each.ms:.0f} ms: {each.error[:160]}", file=sys.stderr)
    return 0 if not failed and all(row["flat"] for rows in told.values() for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

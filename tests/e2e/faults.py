"""What each fault costs a mesh of five under a steady load: `python -m tests.e2e.faults [-o json] [--only NAME ...]`.

For each fault in turn: rest, a while of undisturbed load (the baseline), the fault, its end, a while after it. Needs root and
/dev/net/tun; takes some ten minutes. Exit code 1 if a request was lost or a bound broken.

lost      no right answer before the deadline (10 s), though a part that the entry could reach held all segments
refused   an error where none did: within 3 s, canonical, naming the segment; answered again 5 s after the end
wrong     the bytes differ from those of the whole model run in one piece
busy      refused as RESOURCE_EXHAUSTED to the end: not admitted, so not lost
added     latency during the fault, less the baseline's: medians, and 99th percentiles
tcp       a bare TCP hop there and back on the same network, 3 KiB there, where the fault is one of the network

Rule 1: a fault that could not be switched on fails the run.
Rule 2: one load all through a fault; nothing waits for the mesh to recover but the clock.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from meshd.demo import model
from tests.e2e.bare_hop import BareHop
from tests.e2e.five import HOSTS, Five
from tests.e2e.steady import Sent, Steady, percentile
from tests.e2e.switches import FAULTS, Switch

RATE = 50.0
BASE_S, AFTER_S = 4.0, 5.0
ADDED_P50_MS, ADDED_P99_MS = 150.0, 1_000.0
REFUSED_S, AGAIN_S = 3.0, 5.0
CANONICAL = ("UNAVAILABLE", "INTERNAL")


@dataclass(frozen=True, slots=True)
class Row:
    """One fault's result. Times in milliseconds."""

    fault: str
    requests: int
    lost: int
    refused: int
    wrong: int
    busy: int
    base_p50: float
    base_p99: float
    p50: float
    p99: float
    added_p50: float
    added_p99: float
    tcp_p50: float
    tcp_p99: float
    broken: tuple[str, ...]
    """Bounds that do not hold, in words."""


def run(five: Five, fault: Switch, rate: float = RATE, share: float = 1.0) -> Row:
    """One fault on a mesh at rest, to its end, for `share` of its usual time.

    Raises AssertionError where it could not be switched on.
    """
    five.settle()
    fault.prepare(five)
    print(f"{fault.name}: entry {five.entry}, holders of each segment {five.holders()}", file=sys.stderr, flush=True)
    entries = [five.entry, *([h for h in HOSTS if h != five.entry][:2] if fault.other_entries else [])]
    targets = [five.target(host) for host in entries]
    hop: AbstractContextManager[Any] = (
        BareHop(five.relay, five.entry, 1 + five.entry % 5) if fault.network else nullcontext()
    )
    with Steady(targets, model.NAME, five.demo.sample, rate, fault.truths(five)) as load, hop:
        begun = time.monotonic()
        time.sleep(share * BASE_S)
        on = time.monotonic()
        with fault.switched(five):
            time.sleep(max(0.0, share * fault.seconds - (time.monotonic() - on)))
            off = time.monotonic()
        healed = time.monotonic()
        time.sleep(share * AFTER_S + (AGAIN_S if fault.apart else 0))
    died = [f"host {host} ended by itself; see its log" for host in five.ended()]
    five.start(*five.ended())
    hopped = hop.between(on, off) if isinstance(hop, BareHop) else []
    return judge(fault, load.sent, (begun, on, off, healed), hopped, died)


def judge(
    fault: Switch,
    sent: Sequence[Sent],
    times: tuple[float, float, float, float],
    hopped: Sequence[Sent] = (),
    died: Sequence[str] = (),
) -> Row:
    """What came of all requests, by the words at the top of this file."""
    begun, on, off, healed = times
    base = [each for each in sent if begun + min(1, (on - begun) / 3) <= each.at_s < on]
    during = [each for each in sent if on <= each.at_s < off]
    failed = [each for each in sent if each.code]
    busy = [each for each in failed if each.code == "RESOURCE_EXHAUSTED"]
    excused = [e for e in failed if fault.apart and e not in busy and on - 0.5 <= e.at_s < healed + AGAIN_S]
    lost = [each for each in failed if each not in busy and each not in excused]
    wrong = [each for each in sent if each.wrong]
    broken = [*died]
    broken += [f"lost: {each.code} {each.at_s - on:+.2f} s, {each.ms:.0f} ms: {each.error[:160]}" for each in lost[:3]]
    for each in excused:
        named = each.code in CANONICAL and fault.names(each.error)
        if (each.ms > REFUSED_S * 1e3 or not named) and len(broken) < 5:
            broken.append(f"refused badly: {each.code} {each.at_s - on:+.2f} s, {each.ms:.0f} ms: {each.error[:160]}")
    if wrong:
        broken.append(f"{len(wrong)} wrong answers")
    right = [each for each in during if each.right]
    p50, p99 = percentile(right, 50), percentile(right, 99)
    base_p50, base_p99 = percentile(base, 50), percentile(base, 99)
    if fault.bounded and p50 - base_p50 > ADDED_P50_MS:
        broken.append(f"added p50 {p50 - base_p50:.0f} ms, at most {ADDED_P50_MS:.0f}")
    if fault.bounded and p99 - base_p99 > ADDED_P99_MS:
        broken.append(f"added p99 {p99 - base_p99:.0f} ms, at most {ADDED_P99_MS:.0f}")
    if not base or not during:
        broken.append("no load")
    numbers = (base_p50, base_p99, p50, p99, p50 - base_p50, p99 - base_p99)
    hops = percentile(hopped, 50), percentile(hopped, 99)
    counted = len(sent), len(lost), len(excused), len(wrong), len(busy)
    return Row(fault.name, *counted, *(round(n, 1) for n in (*numbers, *hops)), tuple(broken))  # type: ignore[arg-type]


def table(rows: Sequence[Row]) -> str:
    """For people."""
    head = f"{'fault':16} {'sent':>5} {'lost':>5} {'refused':>7} {'wrong':>5} {'busy':>5} {'base p50/p99':>14} {'p50/p99':>14} "
    lines = [head + f"{'added p50/p99':>14} {'tcp p50/p99':>14}"]
    for row in rows:
        pairs = [(row.base_p50, row.base_p99), (row.p50, row.p99), (row.added_p50, row.added_p99)]
        if row.tcp_p50:
            pairs.append((row.tcp_p50, row.tcp_p99))
        numbers = f"{row.fault:16} {row.requests:5} {row.lost:5} {row.refused:7} {row.wrong:5} {row.busy:5} "
        lines.append(numbers + " ".join(f"{f'{a:.0f}/{b:.0f}':>14}" for a, b in pairs))
        lines += [f"    BROKEN {why}" for why in row.broken]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them all, or those named; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.faults", description=__doc__.splitlines()[0])
    parser.add_argument("-o", dest="output", choices=("table", "json"), default="table")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[f.name for f in FAULTS], default=None)
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second")
    parser.add_argument("--keep", type=Path, help="folder to leave the daemons' logs in")
    given = parser.parse_args(arguments)
    chosen = [fault for fault in FAULTS if given.only is None or fault.name in given.only]
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshd-faults-")))
        folder.mkdir(parents=True, exist_ok=True)
        five = stack.enter_context(Five(folder))
        throttled = five.throttled_by
        print(f"five hosts, one with a tenth of a core (by {throttled})", file=sys.stderr)
        for fault in chosen:
            row = _tried(lambda fault=fault: run(five, fault, given.rate), fault.name)  # type: ignore[misc]
            rows.append(row)
            print(table([row]).split("\n", 1)[1], file=sys.stderr, flush=True)
    if given.output == "json":
        told = [asdict(row) for row in rows]
        print(json.dumps({"apiVersion": "meshd/v1", "kind": "FaultReport", "throttledBy": throttled, "rows": told}))
    else:
        print(table(rows))
    return 1 if any(row.broken for row in rows) else 0


def _tried(act: Callable[[], Row], name: str) -> Row:
    """Its row; where the fault could not be switched on, or the mesh did not come to rest, one that says so."""
    try:
        return act()
    except Exception as error:  # noqa: BLE001  The next faults are still worth their figures.
        traceback.print_exc()
        return Row(name, 0, 0, 0, 0, 0, *([0.0] * 8), (f"not switched on: {str(error)[:300]}",))  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())

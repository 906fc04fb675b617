"""The demo, told in order: find, deploy, serve, kill, survive, repair, return.

Nothing here knows the inside of a daemon: it watches by the admin API and asks by the client API, as a user would.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from meshd.demo import mesh, model
from meshd.demo.fleet import Daemon, Fleet
from meshd.demo.load import CALLERS, Load
from meshd.demo.report import Failover, Run
from meshd.errors import ConflictError, MeshdError, UnavailableError
from meshd.v1 import admin_pb2 as pb

SEGMENTS_MIN = 3
FIND_S = 30.0
SERVE_S = 60.0
REPAIR_S = 45.0
_POLL_S = 0.02


class Audience(Protocol):
    """Who is told, as it happens."""

    def say(self, text: str) -> None:
        """A line."""

    def picture(self, status: pb.Status) -> None:
        """The mesh as the entry sees it now."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can choose."""

    nodes: int = 4
    requests: int = 300


def tell(options: Options, fleet: Fleet, audience: Audience) -> Run:
    """Run the whole demo on a fleet that has just started; returns what was observed. Raises MeshdError if it cannot go on."""
    with ThreadPoolExecutor(1) as beside:
        loading = beside.submit(model.load)
        audience.say(f"{options.nodes} daemons start on 127.0.0.1; nobody is told of anybody")
        discovery_s = _discover(fleet, audience)
        prepared = loading.result()
    if not prepared.as_card():
        raise ConflictError("the model's accuracy on its sample is not what its card says; was the package altered?")
    status = _deploy(fleet, prepared, audience)
    middle = len(mesh.copies(status, model.NAME)) // 2
    victim = _daemon(fleet, status, mesh.owner(status, model.NAME, middle))
    entry = next(d for d in fleet.daemons if d is not victim)
    run = Run(
        nodes=options.nodes,
        discovery_s=discovery_s,
        segments=mesh.segments(status, model.NAME, _kernels(fleet)),
        outcomes=(),
        failover=None,
        single_ms=prepared.single_ms,
        accuracy_expected=prepared.expected(options.requests),
    )
    _describe(run, audience)
    load = Load(entry.client_target, model.NAME, prepared.sample, options.requests)
    failover = _kill(fleet, entry, victim, load, options, audience, middle)
    outcomes = load.finish(SERVE_S)
    return replace(run, outcomes=tuple(outcomes), failover=failover)


def _discover(fleet: Fleet, audience: Audience) -> float:
    """Seconds from the last daemon's first answer until each sees all."""
    wanted, deadline = len(fleet.daemons), time.perf_counter() + FIND_S
    waiting, listening = list(fleet.daemons), 0.0
    while waiting:
        waiting = [d for d in waiting if _status(d) is None]
        if time.perf_counter() > deadline:
            raise UnavailableError(
                f"{waiting[0].name} does not listen after {FIND_S:g} s; its log:\n{waiting[0].tail()}"
            )
        time.sleep(_POLL_S)
    listening = time.perf_counter()
    while True:
        seen = [_status(d) for d in fleet.daemons]
        if all(s is not None and len(mesh.alive(s)) == wanted for s in seen):
            break
        if time.perf_counter() > deadline:
            short = [
                f"{d.name} sees {len(mesh.alive(s)) if s else 0}" for d, s in zip(fleet.daemons, seen, strict=True)
            ]
            raise UnavailableError(f"not all nodes found each other in {FIND_S:g} s: {', '.join(short)} of {wanted}")
        time.sleep(_POLL_S)
    took = time.perf_counter() - listening
    assert seen[0] is not None
    audience.picture(seen[0])
    audience.say(f"all {wanted} see all by mDNS and gossip, {took:.1f} s after the last one listened")
    return took


def _status(daemon: Daemon) -> pb.Status | None:
    if not daemon.admin_socket.exists():
        daemon.admin(1.0).__exit__(None, None, None)  # Raises if it ended.
        return None
    try:
        with daemon.admin(2.0) as admin:
            return admin.status()
    except UnavailableError:
        if not daemon.running:
            raise
        return None


def _deploy(fleet: Fleet, prepared: model.DemoModel, audience: Audience) -> pb.Status:
    first = fleet.daemons[0]
    began = time.perf_counter()
    with first.admin() as admin:
        digest = admin.push(prepared.bundle.topology, prepared.bundle.blobs)
        admin.deploy(model.NAME, digest, pb.DeployPolicy(segments_min=SEGMENTS_MIN), SERVE_S)
        audience.say(f"model {digest[:12]} pushed and deployed with --min-segments {SEGMENTS_MIN}; the nodes negotiate")
        status = admin.wait(
            lambda s: mesh.has_copies(s, model.NAME), SERVE_S, "every segment of the plan loaded on two nodes"
        )
    audience.picture(status)
    audience.say(f"the plan serves, {time.perf_counter() - began:.1f} s after the push began")
    return status


def _daemon(fleet: Fleet, status: pb.Status, node: str) -> Daemon:
    name = mesh.names(status)[node]
    return next(d for d in fleet.daemons if d.name == name)


def _kernels(fleet: Fleet) -> dict[tuple[str, int], dict[str, int]]:
    found = {}
    for daemon in fleet.daemons:
        with daemon.admin() as admin:
            status = admin.status()
        me = next(node for node in status.nodes if node.id == status.node_id)
        found.update({(me.id, holding.segment): dict(holding.kernels) for holding in me.holdings})
    return found


def _describe(run: Run, audience: Audience) -> None:
    for part in run.segments:
        kinds = ", ".join(f"{count} {kind}" for kind, count in part.kernels.items() if count) or "none"
        crosses = f"; {part.crossing_bytes} bytes cross after it" if part.crossing_bytes else ""
        standbys = ", ".join(part.standbys) or "nobody"
        audience.say(f"  layers {part.start}-{part.end - 1}: {part.owner}, then {standbys}; kernels: {kinds}{crosses}")
    audience.say(f"one node alone would take {run.single_ms:.2f} ms an image (compute only)")


def _kill(
    fleet: Fleet, entry: Daemon, victim: Daemon, load: Load, options: Options, audience: Audience, segment: int
) -> Failover:
    """Serve a third, kill in mid-stream, serve a third meanwhile; then wait for repair, return, and open the rest."""
    third = max(options.requests // 3, 1)
    audience.say(f"{third} images through {entry.name}, {CALLERS} at once")
    load.open_to(third)
    if not load.wait(lambda now: len(now.outcomes) >= third, SERVE_S):
        raise UnavailableError(f"requests are not answered; the entry's log:\n{entry.tail()}")
    with entry.admin() as admin:
        before = admin.status()
        node = next(n.id for n in before.nodes if n.name == victim.name)
        load.open_to(2 * third)
        load.wait(
            lambda now: len(now.outcomes) >= third + third // 4 and now.in_flight >= min(CALLERS, third) - 2, SERVE_S
        )
        killed_s, killed_wall_us = time.perf_counter(), time.time_ns() // 1000
        victim.kill()
        audience.say(f"SIGKILL to {victim.name}, owner of segment {segment}, with {load.in_flight} requests in flight")
        load.wait(lambda now: len(now.outcomes) >= 2 * third, SERVE_S)
        answered = sum(o.answered for o in load.outcomes)
        audience.say(f"{answered} of {len(load.outcomes)} requests answered so far")
        suspect_s = None
        with _quietly():
            told = next(e for e, _ in admin.events() if _accuses(e, node, killed_wall_us))
            suspect_s = killed_s + (told.wall_us - killed_wall_us) / 1e6
            audience.say(f"{entry.name} suspects it after {(suspect_s - killed_s) * 1e3:.0f} ms")
            audience.picture(admin.status())
        repaired_s = returned_s = None
        took_over = ""
        with _quietly():
            status = admin.wait(
                lambda s: node not in mesh.alive(s) and mesh.has_copies(s, model.NAME), REPAIR_S, "repair"
            )
            repaired_s = time.perf_counter()
            took_over = mesh.names(status).get(mesh.owner(status, model.NAME, segment), "")
            audience.picture(status)
            audience.say(
                f"{took_over} took over; every segment has its copies again after {repaired_s - killed_s:.1f} s"
            )
        victim.start()
        with _quietly():
            status = admin.wait(lambda s: _is_back(s, node, before), FIND_S, "return")
            returned_s = time.perf_counter()
            audience.picture(status)
            audience.say(f"{victim.name} came back and was taken in again")
    return Failover(victim.name, killed_s, suspect_s, repaired_s, returned_s, took_over)


def _accuses(event: pb.MeshEvent, node: str, after_us: int) -> bool:
    return event.subject == node and event.kind in ("member.suspect", "member.dead") and event.wall_us >= after_us


def _is_back(status: pb.Status, node: str, before: pb.Status) -> bool:
    """Alive in a new boot, and its facts have arrived: its name is one of them."""
    known = mesh.names(status).get(node) == mesh.names(before)[node]
    return known and node in mesh.alive(status) and _boot(status, node) > _boot(before, node)


def _boot(status: pb.Status, node: str) -> int:
    return next((n.boot for n in status.nodes if n.id == node), 0)


@contextmanager
def _quietly() -> Iterator[None]:
    """What did not happen is missing in the report, which says so: the story goes on."""
    try:
        yield
    except (MeshdError, StopIteration):
        return

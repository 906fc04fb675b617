"""`meshd run`: makes the rooms, joins them, says READY, waits for a signal, takes them down in order.

Order up: settings, folder, identity, key (`prepare`); the measuring child, before any gRPC object exists; sockets; driver
and node; links once the node has its boot; data plane; servers; READY after a round trip through the driver.
Order down: STOPPING; drain and goodbye within `DRAIN_US`; servers; links; store. A second signal ends the process at once.

Nothing is decided here.
"""

import logging
import os
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import trio

from meshd import __version__
from meshd.config import PROFILES, SWITCH_INTERVAL_S
from meshd.core import events
from meshd.core.ids import Boot, Digest, NodeId
from meshd.core.node import Identity as CoreIdentity
from meshd.core.node import Node, Setup
from meshd.core.placement import solve
from meshd.core.view import Capacity, State, View, empty_view
from meshd.daemon.board import Board
from meshd.daemon.device import cores, machine, memory_budget_bytes, own_addresses
from meshd.daemon.doctor import Doctor
from meshd.daemon.driver import Driver, Shell
from meshd.daemon.holder import Holder
from meshd.daemon.inbox import Inbox
from meshd.daemon.leaving import leave
from meshd.daemon.logs import log_to_stderr
from meshd.daemon.peers import Peers
from meshd.daemon.prepared import Prepared, prepare
from meshd.daemon.rates import Measuring
from meshd.daemon.reach import Reach
from meshd.daemon.seeking import Seeker
from meshd.daemon.serving import Servers
from meshd.daemon.settings import Settings
from meshd.daemon.signatures import SignatureBook
from meshd.daemon.signing import verify
from meshd.daemon.systemd import Notifier
from meshd.dataplane.plane import DataPlane
from meshd.errors import InvalidError, MeshdError, MisuseError, UnavailableError
from meshd.net.addresses import bind_ports
from meshd.net.identity import identify

log = logging.getLogger(__name__)

MEASURE_LINKS_S = 10.0


def run(settings: Settings) -> int:
    """Run one node until a signal ends it; returns the exit code.

    Raises
    ------
    MeshdError
        It could not start; the message says why and what to do.
    """
    log_to_stderr(settings.log_level)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _refuse_slow_protobuf()
    os.environ["MESHD_CACHE_DIR"] = str(settings.cache_dir)  # Where kernels compile to, here and in the child.
    prepared = prepare(settings)
    measuring = Measuring(settings.cache_dir)
    try:
        return trio.run(Supervisor(prepared, measuring).main)
    except* MeshdError as errors:
        raise _first(errors) from errors
    finally:
        measuring.stop()
        prepared.store.close()


class Hints:
    """What the data plane saw, told to the core: `dataplane.plane.Hints`, from any thread."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def hinted(self, peer: NodeId) -> None:
        """A link or hop failed."""
        self._inbox.offer(events.Hinted(peer))

    def pair_unreachable(self, peer: NodeId, ok: bool) -> None:
        """Links to `peer` fail, or work again."""
        self._inbox.offer(events.PairUnreachable(peer, ok))


class Supervisor:
    """One running daemon."""

    def __init__(self, prepared: Prepared, measuring: Measuring) -> None:
        self._prepared, self._settings, self._measuring = prepared, prepared.settings, measuring
        self._me = prepared.identity.node
        self._notifier = Notifier()

    async def main(self) -> int:
        """Everything inside trio; returns the exit code."""
        prepared, settings = self._prepared, self._settings
        udp, tcp, port = bind_ports(prepared.host, settings.gossip_port)
        self.board = Board(empty_view(self._me, Boot(0)))
        inbox = Inbox()
        self.peers = Peers(
            udp, tcp, port, prepared.identity, prepared.keyring, lambda: self.board.view, prepared.library.read
        )
        self.peers.deliver_to(inbox)
        self.holder = Holder(
            prepared.library, self.peers.fetch, self._sources, inbox.answer, turn=settings.cache_dir / "compile.lock"
        )
        self.signatures = SignatureBook(prepared.library, self.holder.fetch_topology)
        node = self._node(port)
        timers = PROFILES[settings.profile]
        shell = Shell(self.peers, self.peers, self.holder, self._keep, self._solve)
        self.driver = Driver(node, shell, self.board, inbox, timers.probe_period_us)
        self.servers: Servers | None = None
        self.plane: DataPlane | None = None
        try:
            async with trio.open_nursery() as nursery:
                stopping = trio.Event()
                nursery.start_soon(self._signals, stopping)
                nursery.start_soon(self.driver.run, node.start(self.driver.now_us()))
                with trio.fail_after(60):
                    await self.peers.booted.wait()
                nursery.start_soon(self.peers.run)
                self.reach = Reach(self.peers.data)
                self.plane = DataPlane(
                    me=self._me,
                    boot=self.peers.boot,
                    view=lambda: self.board.view,
                    holder=self.holder.get,
                    signatures=self.signatures.signature,
                    links=self.peers.data,
                    hints=Hints(inbox),
                    cores=settings.threads or cores(),
                )
                seeker = Seeker(prepared, port, inbox)
                doctor = Doctor(prepared.mesh_id, self.board, seeker.heard)
                self.servers = Servers(self, doctor, port)
                self.board.listen(self._view_changed)
                self._view_changed(self.board.view)
                self.holder.announce()
                self.servers.start(nursery)
                nursery.start_soon(seeker.run)
                nursery.start_soon(self._measure)
                nursery.start_soon(self._measure_links)
                nursery.start_soon(self._mend_signatures)
                await self.driver.round_trip()
                self._notifier.tell("READY=1", f"STATUS={self._summary(self.board.view)}")
                log.info("ready: node %s, %s", self._me, ", ".join(self.servers.words()))
                nursery.start_soon(self._watchdog)
                nursery.start_soon(self._tell_status)
                await stopping.wait()
                self._notifier.tell("STOPPING=1", "STATUS=draining")
                await leave(self.driver, self.board, self._in_flight)
                await self.servers.stop()
                nursery.cancel_scope.cancel()
        finally:
            self.board.close()
            self.holder.close()
            if self.plane is not None:
                self.plane.close()
            self.peers.close()
        log.info("stopped")
        return 0

    # ------------------------------------------------------------ the node and its effects

    def _node(self, port: int) -> Node:
        prepared, settings = self._prepared, self._settings
        # Randomness for probe order and jitter; each purpose has its own generator so that replays stay stable.
        seed = random.SystemRandom().getrandbits(64)
        identity = CoreIdentity(
            node=self._me,
            certificate=prepared.identity.certificate,
            addresses=own_addresses(prepared.host, port, settings.interfaces, settings.interfaces_skip),
            name=settings.name,
            software=__version__,
            signing_key=prepared.signer.public,
        )
        return Node(
            Setup(
                identity=identity,
                rng=lambda purpose: random.Random(f"{seed}/{purpose}"),
                identify=_identify,
                sign=prepared.signer.sign,
                verify=verify,
                seeds=Seeker.numeric(settings.seeds),
                timers=PROFILES[settings.profile],
                restored=prepared.store.kept(),
            )
        )

    async def _keep(self, batch: Sequence[tuple[str, object]]) -> None:
        # Not abandoned when cancelled: a half-written batch must end before the store closes.
        await trio.to_thread.run_sync(self._prepared.store.keep, batch)

    async def _solve(self, problem: Any) -> object:
        return await trio.to_thread.run_sync(solve, problem)

    def _sources(self, model: Digest) -> list[NodeId]:
        """Nodes that have a model whole, alive ones first."""
        view = self.board.view
        have = [m for n, m in sorted(view.members.items()) if n != self._me and model in m.models]
        return [m.node for m in sorted(have, key=lambda m: m.state.value) if m.state in (State.ALIVE, State.SUSPECT)]

    def _view_changed(self, view: View) -> None:
        self.signatures.update(view)
        self.reach.view_changed(view)
        if self.plane is not None:
            self.plane.view_changed(view)

    async def _measure(self) -> None:
        settings = self._settings
        measured = await self._measuring.result()
        budget = memory_budget_bytes(settings.memory_max)
        capacity = Capacity(
            memory_bytes=budget,
            free_bytes=budget,
            cores=settings.threads or cores(),
            labels=settings.labels,
            host=machine(),
        )
        capacity = replace(capacity, rates=measured.rates, numeric=measured.numeric)
        self.driver.inbox.answer(events.Measured(capacity))
        await self._measuring.ended()

    async def _mend_signatures(self) -> None:
        while True:
            await trio.sleep(0.5)
            self.signatures.update(self.board.view)

    async def _measure_links(self) -> None:
        while True:
            await trio.sleep(MEASURE_LINKS_S)
            self.reach.measure(self.driver.inbox.offer)

    # ------------------------------------------------------------ the service manager and signals

    async def _signals(self, stopping: trio.Event) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async for number in received:
                if stopping.is_set():
                    log.warning("second signal: ending at once")
                    os._exit(128 + number)
                log.info("%s: draining, 10 s at most; once more ends at once", signal.Signals(number).name)
                stopping.set()

    def _in_flight(self) -> int:
        return self.plane.counts()["in_flight"] if self.plane is not None else 0

    async def _watchdog(self) -> None:
        while self._notifier.watchdog_s is not None:
            await self.driver.round_trip()
            self._notifier.tell("WATCHDOG=1")
            await trio.sleep(self._notifier.watchdog_s)

    async def _tell_status(self) -> None:
        last = self._summary(self.board.view)
        while True:
            if (words := self._summary(self.board.view)) != last:
                self._notifier.tell(f"STATUS={words}")
                last = words
            await trio.sleep(1)

    def _summary(self, view: View) -> str:
        served = sum(each.plan is not None for each in view.deployments.values())
        return f"{len(view.alive())} nodes alive, {served} of {len(view.deployments)} deployments served"

    @property
    def prepared(self) -> Prepared:
        """What this daemon was started with."""
        return self._prepared


def _identify(certificate: bytes) -> NodeId | None:
    try:
        return identify(certificate)
    except InvalidError:
        return None


def _refuse_slow_protobuf() -> None:
    from google.protobuf.internal import api_implementation

    if api_implementation.Type() == "python" and not os.environ.get("MESHD_ALLOW_SLOW_PROTOBUF"):
        raise MisuseError(
            "protobuf runs on its pure Python backend, fifty times slower; install a wheel with the upb backend,"
            " or set MESHD_ALLOW_SLOW_PROTOBUF=1"
        )


def _first(errors: BaseExceptionGroup[BaseException]) -> MeshdError:
    for error in errors.exceptions:
        if isinstance(error, MeshdError):
            return error
        if isinstance(error, BaseExceptionGroup):
            return _first(error)
    return UnavailableError(str(errors))

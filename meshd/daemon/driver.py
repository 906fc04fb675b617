"""The loop that owns the `Node`: input → step → effects, performed.

Rule 1: one trio task steps the node; nothing else touches it. Everything reaches it through the inbox or the socket.
Rule 2: on each wake the socket is drained (at most 256 datagrams) before due timers fire: what arrived in time counts.
Rule 3: a wake more than a probe period late is told to the node first (`Woke`): a process that was stopped accuses nobody.
Rule 4: nothing slow happens here: Persist and Solve run on threads and come back as inputs, loads belong to the holder.
Rule 5: a bug in the core (an AssertionError out of `step`) ends the process; systemd starts it again from what was kept.
"""

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from meshd.config import DATAGRAMS_A_WAKE_MAX, INPUTS_A_WAKE_MAX, PERSISTS_A_BATCH_MAX, SOLVES_AT_ONCE_MAX
from meshd.core import events
from meshd.core.events import Command, DatagramIn, Done, Effect, Input, Refused, TimerFired, Token, Woke
from meshd.core.ids import Boot, NodeId
from meshd.daemon.board import Board
from meshd.daemon.inbox import Inbox
from meshd.daemon.timers import Timers
from meshd.errors import MeshdError, UnavailableError

log = logging.getLogger(__name__)

KEEP_AGAIN_S = 1.0
"""A full disk is tried again this often; what depends on it waits unannounced."""


class Machine(Protocol):
    """What the driver drives: `core.node.Node`, or a fake."""

    def step(self, input: Input, now_us: int) -> Iterable[Effect]:
        """Take one input in."""


class Gossip(Protocol):
    """Sealed datagrams."""

    async def readable(self) -> None:
        """Return when something may be read."""

    def drain(self, limit: int) -> Sequence[DatagramIn]:
        """Read up to `limit` waiting datagrams without waiting; those that are refused are counted, not returned."""

    def send(self, effect: events.SendDatagram) -> None:
        """Seal and send, or drop: datagrams are lossy."""

    def proven(self, node: NodeId, boot: Boot) -> None:
        """Refuse from now on what (node, boot) sealed before what came last."""

    def use_boot(self, boot: Boot) -> None:
        """Seal as this boot from now on; nothing was sent before the first."""


class Links(Protocol):
    """Control links and the roster of certificates they trust. Nothing here waits."""

    def send(self, effect: events.SendLink) -> None:
        """Queue, opening the link if need be; `LinkChanged` tells of failure."""

    def trust(self, effect: events.Trust) -> None:
        """Put a certificate on the roster."""

    def distrust(self, effect: events.Distrust) -> None:
        """Strike a node off it and close its links."""


class Holdings(Protocol):
    """Performs these effects on its own threads and answers through the inbox."""

    def perform(self, effect: events.Load | events.Unload | events.Fetch | events.Discard) -> None:
        """Begin; never wait."""


@dataclass(frozen=True, slots=True)
class Shell:
    """All that performs effects."""

    gossip: Gossip
    links: Links
    holdings: Holdings
    keep: Callable[[Sequence[tuple[str, Any]]], Awaitable[None]]
    """Persists (key, value) pairs; raises UnavailableError when it cannot now."""
    solve: Callable[[Any], Awaitable[Any]]


class Driver:
    """Made inside trio. `run` is the loop; the other methods may be called from where they say."""

    def __init__(self, machine: Machine, shell: Shell, board: Board, inbox: Inbox, probe_period_us: int) -> None:
        self._machine, self._shell, self._board, self.inbox = machine, shell, board, inbox
        self._late_us_max = probe_period_us
        self._timers = Timers()
        self._unkept: list[events.Persist] = []
        self._keep_soon = trio.Event()
        self._solving = trio.CapacityLimiter(SOLVES_AT_ONCE_MAX)
        self._asked: dict[Token, Callable[[Done | Refused], None]] = {}
        self._asked_lock = threading.Lock()
        self._tokens = 0
        self.counts = {"steps": 0, "datagrams": 0, "woke_late": 0, "keeps": 0}
        """For the metrics."""

    async def run(self, first: Iterable[Effect]) -> None:
        """Perform `first` (what the node's start gave), then drive until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._watch_socket)
            nursery.start_soon(self._keep)
            self._perform(first)
            while True:
                due = self._timers.next_us()
                with trio.move_on_at(float("inf") if due is None else due / 1e6):
                    await self.inbox.wait()
                self._wake(due)

    def _wake(self, due_us: int | None) -> None:
        now_us = self.now_us()
        if due_us is not None and now_us - due_us > self._late_us_max:
            self.counts["woke_late"] += 1
            self._step(Woke(now_us - due_us))
        received = self._shell.gossip.drain(DATAGRAMS_A_WAKE_MAX)
        self.counts["datagrams"] += len(received)
        for datagram in received:
            self._step(datagram)
        for _ in range(min(len(self.inbox), INPUTS_A_WAKE_MAX)):
            item = self.inbox.take()
            if isinstance(item, trio.Event):
                item.set()  # A round trip.
            else:
                self._step(item)
        for id in self._timers.take_due(now_us):
            self._step(TimerFired(id))
        if len(self.inbox) or len(received) == DATAGRAMS_A_WAKE_MAX:
            self.inbox.wake()  # There may be more; let others run in between.

    def _step(self, input: Input) -> None:
        self.counts["steps"] += 1
        self._perform(self._machine.step(input, self.now_us()))

    @staticmethod
    def now_us() -> int:
        """The driver's clock: monotonic, and standing still while the machine sleeps."""
        return int(trio.current_time() * 1e6)

    def _perform(self, effects: Iterable[Effect]) -> None:
        shell = self._shell
        for effect in effects:
            match effect:
                case events.SendDatagram():
                    shell.gossip.send(effect)
                case events.SendLink():
                    shell.links.send(effect)
                case events.SetTimer(id, after_us):
                    self._timers.set(id, self.now_us() + after_us)
                case events.CancelTimer(id):
                    self._timers.cancel(id)
                case events.Persist():
                    self._unkept.append(effect)
                    self._keep_soon.set()
                case events.Publish(view):
                    self._board.publish(view)
                case events.Report():
                    log.info("%s %s %s", effect.kind, effect.subject, _words(effect.detail))
                    self._board.report(effect)
                case events.Solve():
                    self._nursery.start_soon(self._solve, effect)
                case events.UseBoot(boot):
                    shell.gossip.use_boot(boot)
                case events.Proven(node, boot):
                    shell.gossip.proven(node, boot)
                case events.Trust():
                    shell.links.trust(effect)
                case events.Distrust():
                    shell.links.distrust(effect)
                case events.Answer(token, result):
                    with self._asked_lock:
                        answered = self._asked.pop(token, None)
                    if answered is not None:
                        answered(result)
                case events.Load() | events.Unload() | events.Fetch() | events.Discard():
                    shell.holdings.perform(effect)

    async def _watch_socket(self) -> None:
        while True:
            await self._shell.gossip.readable()
            self.inbox.wake()
            # The driver drains on its wake; look again only after it had its turn, or this would spin.
            await self.round_trip()

    async def _keep(self) -> None:
        while True:
            await self._keep_soon.wait()
            self._keep_soon = trio.Event()
            while self._unkept:
                batch, self._unkept = self._unkept[:PERSISTS_A_BATCH_MAX], self._unkept[PERSISTS_A_BATCH_MAX:]
                # The last value of a key is the one to keep; all tokens are answered.
                values = {persist.key: persist.value for persist in batch}
                while True:
                    try:
                        await self._shell.keep(list(values.items()))
                        break
                    except MeshdError as error:
                        log.error("%s", error)
                        self._board.report(events.Report("store.failed", self._board.view.me, {"reason": str(error)}))
                        await trio.sleep(KEEP_AGAIN_S)
                self.counts["keeps"] += 1
                for persist in batch:
                    self.inbox.answer(events.Persisted(persist.token))

    async def _solve(self, effect: events.Solve) -> None:
        async with self._solving:
            solution = await self._shell.solve(effect.problem)
        self.inbox.answer(events.Solved(effect.token, solution))

    async def round_trip(self) -> None:
        """Return once the loop has taken this in and drained what was before it. From trio."""
        passed = trio.Event()
        self.inbox.answer(passed)
        await passed.wait()

    def _ask(self, command: Command, answered: Callable[[Done | Refused], None]) -> Token:
        with self._asked_lock:
            self._tokens += 1
            token = Token(self._tokens)
            self._asked[token] = answered
        if not self.inbox.offer(events.Operate(token, command, time.time_ns() // 1000)):
            self._forget(token)
            raise UnavailableError("this node is too busy to take a command now; try again in a moment")
        return token

    def _forget(self, token: Token) -> None:
        with self._asked_lock:
            self._asked.pop(token, None)

    async def operate(self, command: Command) -> Done | Refused:
        """Put a command to the node. From trio; when cancelled, the command may still be carried out."""
        result: list[Done | Refused] = []
        passed = trio.Event()

        def answered(value: Done | Refused) -> None:
            result.append(value)
            passed.set()

        token = self._ask(command, answered)
        try:
            await passed.wait()
        finally:
            self._forget(token)
        return result[0]

    def operate_from_thread(self, command: Command, timeout_s: float) -> Done | Refused:
        """Put a command to the node. From any thread but trio's.

        Raises
        ------
        UnavailableError
            No answer in time; the command may still be carried out.
        """
        future: Future[Done | Refused] = Future()
        token = self._ask(command, future.set_result)
        try:
            return future.result(timeout_s)
        except FutureTimeoutError:
            raise UnavailableError(
                f"no answer within {timeout_s:.0f} s; it may still happen: see meshctl status, or wait longer (--timeout)"
            ) from None
        finally:
            self._forget(token)


def _words(detail: Any) -> str:
    return " ".join(f"{key}={value}" for key, value in detail.items())

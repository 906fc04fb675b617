"""What is heard about members, and what follows: suspicion, death, refutation.

ALIVE → SUSPECT when a probe of ours fails or a peer says so; SUSPECT → DEAD when its time is up and four last pings went
unanswered; back to ALIVE when the subject refutes with a higher incarnation.

Rule 1: only this node raises its own incarnation: to max(accused, own) + 1, when it hears itself accused.
Rule 2: the accused answers its accuser directly, and gossips.
Rule 3: DEAD is told to whoever still speaks: it refutes, and is back.

Invariants: M1 only the subject raises its incarnation. M2 per (boot, incarnation) states only rise. M3 a node never lists
itself other than ALIVE unless leaving.

Source: SWIM; Lifeguard (buddy system, confirmations). NB witnesses: when one node accuses, the next few by rendezvous rank probe
at once, so that confirmations do not wait for their turn in the round.
"""

from collections.abc import Callable, Iterable

from meshd.config import MEMBERS_MAX
from meshd.core.context import Context
from meshd.core.dissemination import Rumours
from meshd.core.ids import NodeId, rank
from meshd.core.membership import Members, Record
from meshd.core.messages import Accusation, Rumour
from meshd.core.post import Post
from meshd.core.probe import Probes
from meshd.core.rng import Rng
from meshd.core.suspicion import CONFIRMATIONS_MAX, Suspicion, timeout_us
from meshd.core.view import State

WITNESSES = 4
"""Two confirmations are enough; one witness may be far away and one slow."""


class Swim:
    """The states of all members, and this node's part in them."""

    def __init__(
        self,
        context: Context,
        members: Members,
        rumours: Rumours,
        post: Post,
        rng: Rng,
        on_change: Callable[[Record, State | None], None],
        on_higher_boot: Callable[[Rumour], None],
        on_refuted: Callable[[NodeId], None],
    ) -> None:
        self._context, self._members, self._rumours, self._post = context, members, rumours, post
        self._on_change, self._on_higher_boot, self._on_refuted = on_change, on_higher_boot, on_refuted
        self._suspicions: dict[NodeId, Suspicion] = {}
        self.probes = Probes(context, members, post, rng, self._silent)

    def sizes(self) -> Iterable[tuple[str, int, int]]:
        """(table, entries, limit)."""
        yield ("suspicions", len(self._suspicions), MEMBERS_MAX)
        yield from self.probes.sizes()

    # ------------------------------------------------------------ hearing

    def hear(self, rumour: Rumour, source: NodeId) -> None:
        """Take in a rumour."""
        if rumour.subject == self._context.me:
            self._hear_of_me(rumour, source)
            return
        record = self._members.get(rumour.subject)
        if rumour.state is State.SUSPECT and record is not None and record.state is State.SUSPECT:
            assert rumour.accuser is not None
            if (rumour.boot, rumour.incarnation) == (record.boot, record.incarnation):
                self._confirm(record, rumour.accuser)
                return
        self.learn(rumour)

    def learn(self, rumour: Rumour) -> Record | None:
        """Merge a rumour about another, pass it on if it was news, and do what follows; the record if it was."""
        before = self._members.get(rumour.subject)
        state = before.state if before is not None else None
        record = self._members.apply(rumour, self._context.now_us)
        if record is None:
            self._rumours.heard(rumour, self._members.count)
            return None
        if rumour.incarnation > 0:
            self._rumours.put(rumour)
        if record.state is not State.SUSPECT:
            self._close(record.node)
        else:
            assert rumour.accuser is not None
            self._open(record, rumour.accuser)
        self._on_change(record, state)
        return record

    def _hear_of_me(self, rumour: Rumour, source: NodeId) -> None:
        context = self._context
        if rumour.boot > context.boot:
            self._on_higher_boot(rumour)
            return
        if context.state is State.LEFT:
            return
        if rumour.boot < context.boot or rumour.state is State.ALIVE:
            return
        if rumour.incarnation >= context.incarnation:
            self._refute(rumour.incarnation)
        for node in dict.fromkeys((rumour.accuser or source, source)):
            record = self._members.get(node)
            if record is not None:
                self._post.tell(record, context.myself())

    def _refute(self, accused: int) -> None:
        context = self._context
        context.incarnation = max(accused, context.incarnation) + 1
        self.probes.unwell()
        self._rumours.put(context.myself())
        self._on_refuted(context.me)
        context.report("member.refuted", context.me, incarnation=context.incarnation)

    def accused(self, accusation: Accusation) -> Rumour | None:
        """A Ping said what its sender holds of this node: the answer to put first in the Ack, if that is not so."""
        context = self._context
        held = (accusation.boot, accusation.incarnation, accusation.state)
        mine = context.myself()
        if held == (mine.boot, mine.incarnation, mine.state):
            return None
        if accusation.boot > context.boot:
            self._on_higher_boot(Rumour(State.ALIVE, context.me, accusation.boot, accusation.incarnation))
            return None
        if (
            accusation.boot == context.boot
            and accusation.state is not State.ALIVE
            and accusation.incarnation >= context.incarnation
            and context.state is not State.LEFT
        ):
            self._refute(accusation.incarnation)
        return context.myself()

    # ------------------------------------------------------------ suspecting

    def _silent(self, node: NodeId) -> None:
        """A probe of this node's failed."""
        self.accuse(node)

    def accuse(self, node: NodeId) -> None:
        """This node itself says SUSPECT, or confirms it."""
        record = self._members.get(node)
        if record is None or not record.lives:
            return
        if record.state is State.SUSPECT:
            self._confirm(record, self._context.me)
            return
        self.learn(Rumour(State.SUSPECT, node, record.boot, record.incarnation, accuser=self._context.me))

    def hint(self, node: NodeId) -> None:
        """A link or a hop to `node` failed: probe it now; if it is suspect already that is a confirmation."""
        record = self._members.get(node)
        if record is None or not record.lives:
            return
        if record.state is State.SUSPECT:
            self._confirm(record, self._context.me)
        else:
            self.probes.hint(node)

    def _open(self, record: Record, accuser: NodeId) -> None:
        suspicion, of = self._suspicions.get(record.node), (record.boot, record.incarnation)
        if suspicion is None or suspicion.of != of:
            # Of a later incarnation: it did answer the last one, whether or not that was heard here.
            suspicion = self._suspicions[record.node] = Suspicion(of, self._context.now_us)
        suspicion.confirm(accuser)
        if accuser == self._context.me:
            self._watch(record.node)
        elif self._is_witness(record):
            self.probes.soon(record.node)
        self._rearm(record, suspicion)
        for other in self._suspicions:
            # One more suspect is one fewer who could confirm the others.
            if other != record.node:
                self._rearm(self._members.records[other], self._suspicions[other])

    def _confirm(self, record: Record, accuser: NodeId) -> None:
        suspicion = self._suspicions[record.node]
        accusation = Rumour(State.SUSPECT, record.node, record.boot, record.incarnation, accuser=accuser)
        if not suspicion.confirm(accuser):
            self._rumours.heard(accusation, self._members.count)
            return
        self._rumours.put(accusation)
        if accuser == self._context.me:
            self._watch(record.node)
        self._rearm(record, suspicion)

    def _watch(self, node: NodeId) -> None:
        if self._context.timers.watch_suspects:
            self.probes.watch(node)

    def _is_witness(self, record: Record) -> bool:
        key = f"{record.node} {record.boot} {record.incarnation}"
        mine = rank(key, self._context.me)
        ahead = 0
        for node in self._members.live:
            if node != record.node and rank(key, node) > mine:
                ahead += 1
                if ahead >= WITNESSES:
                    return False
        return True

    def _close(self, node: NodeId) -> None:
        self.probes.cancel(node)
        if self._suspicions.pop(node, None) is not None:
            self._context.cancel(f"suspect/{node}")
            for other, suspicion in self._suspicions.items():
                self._rearm(self._members.records[other], suspicion)

    def _rearm(self, record: Record, suspicion: Suspicion) -> None:
        if not suspicion.last_pings:
            due_us = suspicion.began_us + self._timeout_us(suspicion)
            self._context.timer(f"suspect/{record.node}", max(0, due_us - self._context.now_us))

    def _timeout_us(self, suspicion: Suspicion) -> int:
        # Who could confirm: neither suspect, nor the subject (which is), nor me.
        able = len(self._members.live) - len(self._members.suspects)
        needed = min(CONFIRMATIONS_MAX, able)
        return timeout_us(self._context.timers, self._members.count, suspicion.confirmed, needed)

    def on_suspect_timer(self, node: NodeId) -> None:
        """Timer `suspect/<node>`: time is up, then the last pings are."""
        suspicion, record = self._suspicions.get(node), self._members.get(node)
        if suspicion is None or record is None:
            return
        timers = self._context.timers
        if timers.last_pings and not suspicion.last_pings:
            suspicion.last_pings = True
            self.probes.last(record)
            self._context.timer(f"suspect/{node}", timers.last_pings_us + self.probes.window_us(record))
            return
        self.learn(Rumour(State.DEAD, node, record.boot, record.incarnation, accuser=self._context.me))

    # ------------------------------------------------------------ this node stood still

    def woke(self, late_us: int) -> None:
        """What others did not say meanwhile they may have said: void the probes, extend the suspicions."""
        self.probes.void()
        for node, suspicion in self._suspicions.items():
            suspicion.began_us += late_us
            if suspicion.last_pings:
                suspicion.last_pings = False
            self._rearm(self._members.records[node], suspicion)

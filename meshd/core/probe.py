"""Who is there? One probe a period, in bursts that stop at the first answer; then others are asked to try.

A probe: pings at 0, 75, 150, 225 ms; a window for the answer; then three peers ping for us, for twice the window; then it
failed. A hint makes one at once, direct and indirect together. A suspect that this node itself accuses is probed every
period until it refutes or dies (`watch`), however unwell this node is.

Rule 1: a number is random and counts once; an Ack counts if it returns one that went to its source.
Rule 2: what failed while this process stood still proves nothing: `void` ends all running probes without a verdict.
Rule 3: verdicts are the caller's: `on_silence` says who did not answer.

Source: SWIM section 4.3 (round robin, newcomers at a random place of it); Lifeguard (health, nacks). NB bursts, and health never
slows the probing of suspects: one ping at 20 % loss suspects a healthy peer in 36 % of probes at N = 2.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from meshd.config import PROBES_MAX, RELAYS_MAX
from meshd.core.context import Context
from meshd.core.ids import Address, NodeId
from meshd.core.membership import Members, Record
from meshd.core.messages import Nack, Ping, PingReq, PingReqAck
from meshd.core.post import Post
from meshd.core.rng import Rng, draw
from meshd.core.view import State


class _Phase(Enum):
    PINGS = 0
    WINDOW = 1
    INDIRECT = 2


@dataclass(slots=True)
class _Probe:
    target: NodeId
    watch: bool
    """Of a suspect: repeated every period, no verdict."""
    urgent: bool
    phase: _Phase = _Phase.PINGS
    sent: int = 0
    numbers: list[int] = field(default_factory=list)
    asked: int = 0
    """Peers asked to ping for us."""
    asked_us: int = 0
    nacks: int = 0
    """Of which could not reach it either, but said so."""
    began_us: int = 0


@dataclass(slots=True)
class _Relay:
    requester: NodeId
    back: Address
    number: int
    target: NodeId


class Probes:
    """All probes of this node, and the pings it sends for others."""

    def __init__(
        self, context: Context, members: Members, post: Post, rng: Rng, on_silence: Callable[[NodeId], None]
    ) -> None:
        self._context, self._members, self._post, self._rng = context, members, post, rng
        self._on_silence = on_silence
        self._ring: list[NodeId] = []
        self._probes: dict[NodeId, _Probe] = {}
        self._numbers: dict[int, tuple[NodeId, int]] = {}
        """Numbers out → to whom, when."""
        self._relays: dict[int, _Relay] = {}
        self._hinted_us: int | None = None

    # ------------------------------------------------------------ the round

    def start(self) -> None:
        """Begin at a random moment of the period, so that a mesh powered on together does not probe in step."""
        self._context.timer("probe", 1 + self._rng.randrange(self._context.timers.probe_period_us))

    def on_period(self) -> None:
        """Timer `probe`."""
        period_us = self._context.timers.probe_period_us
        self._context.timer("probe", period_us * (self._post.health + 1))
        target = self._next()
        if target is not None:
            self._begin(target)

    def joined(self, node: NodeId) -> None:
        """It came, or came back: give it a place in the round that is under way, or it could die unnoticed until that ends."""
        if self._ring and len(self._ring) <= 2 * len(self._members.live):
            self._ring.insert(self._rng.randrange(len(self._ring) + 1), node)

    def soon(self, node: NodeId) -> None:
        """Probe this one next: another accuses it, and our word is wanted."""
        if len(self._ring) <= 2 * len(self._members.live):
            self._ring.append(node)

    def hint(self, node: NodeId) -> None:
        """Something failed at `node`: probe it now, directly and through others at once."""
        now_us, gap_us = self._context.now_us, self._context.timers.hint_gap_us
        if self._hinted_us is not None and now_us - self._hinted_us < gap_us:
            self.soon(node)
            return
        self._hinted_us = now_us
        self._begin(node, urgent=True)

    def watch(self, node: NodeId) -> None:
        """This node accuses `node`: probe it every period from now on."""
        self._end(node)
        self._begin(node, watch=True)

    def last(self, record: Record) -> None:
        """Four last pings before a verdict; whoever gives it waits `last_pings_us` and the window."""
        self.watch(record.node)

    def cancel(self, node: NodeId) -> None:
        """It is known to live, or to be gone."""
        self._end(node)

    def void(self) -> None:
        """This process stood still: whoever seemed silent meanwhile is not to blame."""
        for probe in list(self._probes.values()):
            self._end(probe.target)
            if probe.watch:
                self._begin(probe.target, watch=True)

    def sizes(self) -> Iterable[tuple[str, int, int]]:
        """(table, entries, limit)."""
        yield ("probes", len(self._probes), PROBES_MAX)
        yield ("relays", len(self._relays), RELAYS_MAX)

    def _next(self) -> NodeId | None:
        for _ in range(len(self._ring) + len(self._members.live) + 1):
            if not self._ring:
                self._ring = list(self._members.live)
                self._rng.shuffle(self._ring)
                if not self._ring:
                    return None
            node = self._ring.pop()
            record = self._members.get(node)
            if record is not None and record.lives and node not in self._probes:
                return node
        return None

    # ------------------------------------------------------------ one probe

    def _begin(self, node: NodeId, *, watch: bool = False, urgent: bool = False) -> None:
        record = self._members.get(node)
        running = self._probes.get(node)
        if record is None or len(self._probes) >= PROBES_MAX or (running is not None and not urgent):
            return
        if running is not None:
            if not running.watch and not running.asked:
                self._ask_others(running)
            return
        probe = _Probe(node, watch, urgent, began_us=self._context.now_us)
        self._probes[node] = probe
        if urgent:
            self._ask_others(probe)
        self._ping(probe, record)

    def _ping(self, probe: _Probe, record: Record) -> None:
        number = self._rng.getrandbits(64)
        self._numbers[number] = (probe.target, self._context.now_us)
        probe.numbers.append(number)
        offsets = self._context.timers.ping_offsets_us
        self._post.ping(record, number, attempt=probe.sent)
        probe.sent += 1
        if probe.sent < len(offsets):
            self._wait(probe, offsets[probe.sent] - offsets[probe.sent - 1])
        else:
            probe.phase = _Phase.WINDOW
            self._wait(probe, self.window_us(record))

    def window_us(self, record: Record) -> int:
        """How long after the last ping its answer may take: three times the p99 round trip, clamped."""
        timers = self._context.timers
        if not record.rtt_us:
            return timers.ack_window_max_us
        p99_us = record.rtt_us + 3 * record.rtt_deviation_us
        return min(max(3 * p99_us, timers.ack_window_min_us), timers.ack_window_max_us)

    def on_timer(self, node: NodeId) -> None:
        """Timer `probe/<node>`."""
        probe, record = self._probes.get(node), self._members.get(node)
        if probe is None or record is None:
            return
        if probe.phase is _Phase.PINGS:
            self._ping(probe, record)
        elif probe.watch:
            # Not answered: the whole burst again when the period is over.
            self._end(node)
            self._begin(node, watch=True)
        elif probe.phase is _Phase.WINDOW:
            if not probe.asked:
                self._ask_others(probe)
            probe.phase = _Phase.INDIRECT
            # After a hint they were asked at once, and their time is up with ours.
            left_us = probe.asked_us + 2 * self.window_us(record) - self._context.now_us
            if probe.asked and left_us > 0:
                self._wait(probe, left_us)
            else:
                self._fail(probe)
        else:
            self._fail(probe)

    def _wait(self, probe: _Probe, after_us: int) -> None:
        if probe.watch and probe.phase is _Phase.WINDOW:
            spent_us = self._context.now_us - probe.began_us
            after_us = max(after_us, self._context.timers.probe_period_us - spent_us)
        self._context.timer(f"probe/{probe.target}", after_us)

    def _fail(self, probe: _Probe) -> None:
        # Lifeguard: every peer that was asked and not even said Nack speaks for a fault of ours; so does having none to ask.
        self._ail(probe.asked - probe.nacks if probe.asked else 1)
        self._end(probe.target)
        self._on_silence(probe.target)

    def _ail(self, by: int) -> None:
        self._post.health = min(self._context.timers.health_max, self._post.health + by)

    def unwell(self) -> None:
        """Somebody accused this node, which lives: it may be slow."""
        self._ail(1)

    def _end(self, node: NodeId) -> None:
        probe = self._probes.pop(node, None)
        if probe is not None:
            for number in probe.numbers:
                self._numbers.pop(number, None)
            self._context.cancel(f"probe/{node}")

    # ------------------------------------------------------------ answers

    def on_ack(self, source: NodeId, number: int) -> bool:
        """An Ack: True if it returned a number that this node sent to its source."""
        relay = self._relays.get(number)
        if relay is not None and relay.target == source:
            self._drop_relay(number)
            self._post.reply(relay.requester, relay.back, PingReqAck(relay.number, relay.target))
            return True
        asked = self._numbers.pop(number, None)
        if asked is None or asked[0] != source:
            return False
        record = self._members.get(source)
        if record is not None:
            _measure(record, self._context.now_us - asked[1])
        self._succeed(source)
        return True

    def _succeed(self, node: NodeId) -> None:
        probe = self._probes.get(node)
        if probe is None:
            return
        if not probe.watch:
            self._post.health = max(0, self._post.health - 1)
            self._end(node)
            return
        # The suspect answers: nothing more to send now; its refutation is on the way or here.
        probe.phase = _Phase.WINDOW
        self._wait(probe, 0)

    def on_ping_req_ack(self, source: NodeId, message: PingReqAck) -> None:
        """A peer reached the target for us."""
        probe = self._probes.get(message.target)
        if probe is not None and message.number in probe.numbers:
            self._succeed(message.target)

    def on_nack(self, source: NodeId, message: Nack) -> None:
        """A peer could not, but is there itself."""
        probe = self._probes.get(message.target)
        if probe is not None and message.number in probe.numbers and probe.nacks < probe.asked:
            probe.nacks += 1

    # ------------------------------------------------------------ for others

    def _ask_others(self, probe: _Probe) -> None:
        target = self._members.get(probe.target)
        address = target.address() if target is not None else None
        others = [
            record
            for node in self._members.live
            if node != probe.target and (record := self._members.peek(node)).state is State.ALIVE
        ]
        if address is None or not others:
            return
        number = self._rng.getrandbits(64)
        probe.numbers.append(number)
        probe.asked_us = self._context.now_us
        for record in draw(self._rng, others, self._context.timers.indirect_peers):
            self._post.send(record, PingReq(number, probe.target, address))
            probe.asked += 1

    def on_ping_req(self, source: NodeId, back: Address, message: PingReq) -> None:
        """Ping someone for `source`, twice; say Nack if it does not answer in the window."""
        if len(self._relays) >= RELAYS_MAX or message.target == self._context.me:
            return
        number = self._rng.getrandbits(64)
        self._relays[number] = _Relay(source, back, message.number, message.target)
        for _ in range(2):
            self._post.reply(message.target, message.address, Ping(number, self._post.health))
        record = self._members.get(message.target)
        window_us = self.window_us(record) if record is not None else self._context.timers.ack_window_max_us
        self._context.timer(f"relay/{number}", window_us)

    def on_relay_timer(self, number: int) -> None:
        """Timer `relay/<number>`."""
        relay = self._relays.pop(number, None)
        if relay is not None:
            self._post.reply(relay.requester, relay.back, Nack(relay.number, relay.target))

    def _drop_relay(self, number: int) -> None:
        del self._relays[number]
        self._context.cancel(f"relay/{number}")


def _measure(record: Record, rtt_us: int) -> None:
    # Jacobson's estimators, in integers.
    if not record.rtt_us:
        record.rtt_us, record.rtt_deviation_us = max(1, rtt_us), rtt_us // 2
        return
    error = rtt_us - record.rtt_us
    record.rtt_us = max(1, record.rtt_us + error // 8)
    record.rtt_deviation_us += (abs(error) - record.rtt_deviation_us) // 4

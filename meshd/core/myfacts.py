"""What this node says of itself, and when it says it again.

Rule 1: a change of what it holds is published at once; everything else when its rounded value changed and the last time was
`facts_gap_us` ago, or longer in a large mesh (invariant C5: bytes a second stay in budget).
Rule 2: holdings are written before the rest, so that they lead every delta.
"""

from meshd.config import FACT_ENTRIES_MAX
from meshd.core.context import Context
from meshd.core.dissemination import Rumours
from meshd.core.facts import Facts
from meshd.core.ids import Digest, NodeId, SegmentId
from meshd.core.messages import FactKey, FactValue, Hardware, Held, LinkState, OnDisk, Spare
from meshd.core.quantise import five_percent, quarter_power, sixty_fourth
from meshd.core.view import Capacity, Hold, Holding

LINKS_MAX = 64
"""Peers this node tells its link to: those it exchanges activations with, and those it cannot reach."""
FACT_BYTES_TYPICAL = 48
FACTS_BPS_MAX = 1_000


class MyFacts:
    """The owner's side of facts."""

    def __init__(self, context: Context, facts: Facts, rumours: Rumours, name: str, software: str) -> None:
        self._context, self._facts, self._rumours = context, facts, rumours
        self._name, self._software = name, software
        self._capacity = Capacity(cores=0, numeric="")
        self._draining = False
        self._reserved_bytes = 0
        self._links: dict[NodeId, LinkState] = {}
        self._models: tuple[Digest, ...] = ()
        self._holdings: tuple[Holding, ...] = ()
        self._said_us: int | None = None
        self.due = False
        """Is there something to say?"""

    def begin(self) -> None:
        """A new boot: say everything again."""
        self._facts.begin(self._context.boot)
        self._rumours.restart_facts(self._context.me)
        self._write(self._held(), 0)
        self._said_us = None
        self.say(2)

    # ------------------------------------------------------------ what changed

    def measured(self, capacity: Capacity) -> None:
        """What this device offers."""
        self._capacity = capacity
        self.due = True

    def link(self, peer: NodeId, link: LinkState) -> None:
        """A link was measured, or failed, or works again."""
        self._links.pop(peer, None)
        if len(self._links) >= LINKS_MAX:
            del self._links[next(iter(self._links))]
        self._links[peer] = link
        self.due = True

    def unreachable(self, peer: NodeId, unreachable: bool) -> None:
        """The pair cannot be linked (or can again)."""
        old = self._links.get(peer, LinkState())
        if old.unreachable != unreachable:
            self.link(peer, LinkState(old.rtt_us, old.bandwidth_bps, unreachable))

    def disk(self, models: tuple[Digest, ...]) -> None:
        """The models that are whole on disk."""
        self._models = models
        self.due = True

    def holds(self, holdings: tuple[Holding, ...], reserved_bytes: int, draining: bool) -> bool:
        """What this node holds: published at once; True if that changed."""
        if (reserved_bytes, draining) != (self._reserved_bytes, self._draining):
            self.due = self.due or draining != self._draining or reserved_bytes != self._reserved_bytes
            self._reserved_bytes, self._draining = reserved_bytes, draining
        if holdings == self._holdings:
            return False
        self._holdings = holdings
        return self._write(self._held())

    # ------------------------------------------------------------ saying it

    def say(self, members: int) -> bool:
        """Publish what is due, or set the timer `facts` for when it may be; True if something was written."""
        context = self._context
        if self._said_us is not None:
            gap_us = max(context.timers.facts_gap_us, 3 * members * FACT_BYTES_TYPICAL * 1_000_000 // FACTS_BPS_MAX)
            wait_us = self._said_us + gap_us - context.now_us
            if wait_us > 0:
                context.timer("facts", wait_us)
                self.due = False
                return False
        self.due = False
        if self._write(self._rest()):
            self._said_us = context.now_us
            return True
        return False

    def _write(self, wanted: dict[FactKey, FactValue | None], base: int | None = None) -> bool:
        facts = self._facts.of(self._context.me)
        base = facts.version if base is None else base
        changed = False
        for key, value in wanted.items():
            if value is not None and key not in facts.entries and len(facts.entries) >= FACT_ENTRIES_MAX - 64:
                self._context.report("facts.too_many", self._context.me, limit=FACT_ENTRIES_MAX)
                break
            changed |= self._facts.state(key, value, self._context.now_us)
        if changed:
            self._rumours.put_facts(self._context.me, base)
        return changed

    def _held(self) -> dict[FactKey, FactValue | None]:
        now_us = self._context.now_us
        held: dict[FactKey, FactValue | None] = dict.fromkeys(
            key for key in self._facts.of(self._context.me).entries if isinstance(key, SegmentId)
        )
        for h in self._holdings:
            old = self._facts.of(self._context.me).entries.get(h.segment)
            ready_for_us = max(0, now_us - h.ready_since_us) if h.state is Hold.READY else 0
            if (
                old is not None
                and isinstance(old.value, Held)
                and (old.value.state, old.value.measured_us) == (h.state, h.measured_us)
            ):
                ready_for_us = old.value.ready_for_us  # Growing older is no news.
            held[h.segment] = Held(h.state, h.measured_us, ready_for_us, h.reason[:200])
        return held

    def _rest(self) -> dict[FactKey, FactValue | None]:
        c = self._capacity
        rates = tuple(sorted((name, five_percent(rate)) for name, rate in c.rates))
        free_bytes = max(0, sixty_fourth(c.free_bytes - self._reserved_bytes, c.memory_bytes))
        hardware = Hardware(
            self._name, self._software, c.host, c.cores, c.memory_bytes, c.numeric, c.labels, round(c.watts * 1000)
        )
        rest: dict[FactKey, FactValue | None] = {
            "hardware": hardware,
            "capacity": Spare(free_bytes, rates, self._draining),
        }
        old = self._facts.of(self._context.me).entries
        rest |= dict.fromkeys(key for key in old if isinstance(key, tuple))
        for model in self._models:
            rest["disk", model] = OnDisk()
        for peer, link in self._links.items():
            rest["link", peer] = LinkState(
                quarter_power(link.rtt_us), five_percent(link.bandwidth_bps), link.unreachable
            )
        return rest

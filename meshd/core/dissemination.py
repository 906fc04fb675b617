"""News on its way: what is sent next, and how often.

Rule 1: each piece of news is sent at most 3 x ceil(log2(N + 1)) times by one node, the least sent first, of those the newest.
Rule 2: newer news of the same thing replaces older and starts counting anew.
Rule 3: hearing a piece of news that is on its way from here too counts as having sent it once: when all say it already, saying it
again tells nobody anything.
Rule 4: facts are kept as "from this version on" and cut from the store when they are sent: what is sent is never old.

Invariant (M4): one rumour leaves this node at most `sends_max` times.

Source: SWIM section 4.1; memberlist `queue.go`. NB memberlist's 4 x log10(N + 1) reaches all in 88 % of runs at N = 8; rule 3 is
the feedback of Demers et al., PODC 1987, section 1.4: without it a mesh powered on together talks for half a minute.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meshd.config import NEWS_A_DATAGRAM_MAX, NEWS_BYTES_MAX
from meshd.core.ids import NodeId
from meshd.core.messages import NO_NEWS, FactsDelta, IntentRumour, News, Rumour
from meshd.core.sizes import DELTA_BYTES, delta_bytes, intent_bytes, rumour_bytes
from meshd.core.view import State

CutFacts = Callable[[NodeId, int, int], FactsDelta | None]
"""(node, base version, bytes) → a delta from base that fits, None if there is nothing or nothing fits."""


def sends_max(members: int, factor: int) -> int:
    """How often one node passes on one piece of news."""
    return factor * members.bit_length()  # = ceil(log2(members + 1))


@dataclass(slots=True)
class _Item:
    key: tuple[str, ...]
    content: Rumour | IntentRumour | int
    """A rumour, or for facts the base version."""
    size: int = 0
    """Bytes on the wire; 0 for facts, which are cut anew each time."""
    sends: int = 0


MISFITS_MAX = 8
"""Items passed over because they do not fit, until a datagram counts as full."""


class Rumours:
    """The queue of news."""

    def __init__(self, cut_facts: CutFacts, factor: int) -> None:
        self._cut_facts, self._factor = cut_facts, factor
        self._items: dict[tuple[str, ...], _Item] = {}
        self._accusations: dict[NodeId, dict[tuple[str, ...], None]] = {}
        self._levels: list[dict[tuple[str, ...], _Item]] = [{}]
        """By sends so far; within one, oldest first."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, rumour: Rumour) -> None:
        """Spread a rumour; what it supersedes is no news any more."""
        subject = rumour.subject
        if rumour.state is State.SUSPECT:
            # Each accuser counts for itself, for the confirmations.
            assert rumour.accuser is not None
            self._drop(("member", subject))
            key = ("suspect", subject, rumour.accuser)
            self._accusations[subject] = self._still_news(rumour) | {key: None}
            self._put(key, rumour)
            return
        for accusation in self._accusations.pop(subject, ()):
            self._drop(accusation)
        self._put(("member", subject), rumour)

    def _still_news(self, rumour: Rumour) -> dict[tuple[str, ...], None]:
        """Accusations on their way of the same (boot, incarnation) as `rumour`; older ones are no news any more."""
        kept: dict[tuple[str, ...], None] = {}
        for key in self._accusations.get(rumour.subject, ()):
            item = self._items.get(key)
            if item is None or not isinstance(item.content, Rumour):
                continue
            if (item.content.boot, item.content.incarnation) == (rumour.boot, rumour.incarnation):
                kept[key] = None
            else:
                self._drop(key)
        return kept

    def put_intent(self, rumour: IntentRumour) -> None:
        """Spread the greatest key of a deployment."""
        self._put(("intent", rumour.deployment), rumour)

    def put_facts(self, node: NodeId, base: int) -> None:
        """Spread `node`'s facts past version `base`, or past an older base that is still on its way."""
        old = self._items.get(("facts", node))
        if old is not None:
            assert isinstance(old.content, int)
            base = min(base, old.content)
        self._put(("facts", node), base)

    def restart_facts(self, node: NodeId) -> None:
        """A new boot of `node`: its versions count anew."""
        self._drop(("facts", node))

    def forget_all(self) -> None:
        """Nothing is news: everybody knows it (`core.known`)."""
        self._items.clear()
        self._accusations.clear()
        self._levels = [{}]

    def take(self, members: int, room: int = NEWS_BYTES_MAX, first: Rumour | None = None) -> News:
        """Fill a datagram. `first`, if given, goes in before all else and is not counted."""
        rumours: list[Rumour] = []
        if first is not None:
            rumours.append(first)
            room -= rumour_bytes(first)
        if not self._items:
            return News(tuple(rumours)) if rumours else NO_NEWS
        limit = sends_max(members, self._factor)
        facts: list[FactsDelta] = []
        intents: list[IntentRumour] = []
        taken: list[_Item] = []
        misfits = 0
        for item in self._in_turn():
            if room < DELTA_BYTES or len(taken) >= NEWS_A_DATAGRAM_MAX - 1 or misfits >= MISFITS_MAX:
                break
            content, size = item.content, item.size
            if isinstance(content, int):
                delta = self._cut_facts(NodeId(item.key[1]), content, room)
                size = delta_bytes(delta) if delta is not None else room + 1
            if size > room:
                misfits += 1
                continue
            if isinstance(content, Rumour):
                rumours.append(content)
            elif isinstance(content, IntentRumour):
                intents.append(content)
            elif delta is not None:
                facts.append(delta)
            room -= size
            taken.append(item)
        for item in taken:
            self._count(item, limit)
        return News(tuple(rumours), tuple(facts), tuple(intents))

    def heard(self, rumour: Rumour, members: int) -> None:
        """Another says what is on its way from here too."""
        key: tuple[str, ...] = ("member", rumour.subject)
        if rumour.state is State.SUSPECT and rumour.accuser is not None:
            key = ("suspect", rumour.subject, rumour.accuser)
        item = self._items.get(key)
        if item is not None and item.content == rumour:
            self._count(item, sends_max(members, self._factor))

    def heard_facts(self, node: NodeId, members: int) -> None:
        """Another passes on the facts of `node` just as they are known here."""
        item = self._items.get(("facts", node))
        if item is not None:
            self._count(item, sends_max(members, self._factor))

    def _in_turn(self) -> Iterator[_Item]:
        for level in self._levels:
            yield from reversed(level.values())

    def _put(self, key: tuple[str, ...], content: Rumour | IntentRumour | int) -> None:
        self._drop(key)
        size = 0
        if isinstance(content, Rumour):
            size = rumour_bytes(content)
        elif isinstance(content, IntentRumour):
            size = intent_bytes(content)
        self._items[key] = self._levels[0][key] = _Item(key, content, size)

    def _drop(self, key: tuple[str, ...]) -> None:
        item = self._items.pop(key, None)
        if item is not None:
            del self._levels[item.sends][key]

    def _count(self, item: _Item, limit: int) -> None:
        del self._levels[item.sends][item.key]
        item.sends += 1
        if item.sends >= limit:
            del self._items[item.key]
            return
        while len(self._levels) <= item.sends:
            self._levels.append({})
        self._levels[item.sends][item.key] = item

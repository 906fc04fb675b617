"""News on its way: what is sent next, and how often.

Rule 1: each piece of news is sent at most 3 x ceil(log2(N + 1)) times by one node, the least sent first, of those the newest.
Rule 2: newer news of the same thing replaces older and starts counting anew.
Rule 3: facts are kept as "from this version on" and cut from the store when they are sent: what is sent is never old.

Invariant (M4): one rumour leaves this node at most `sends_max` times.

Source: SWIM section 4.1; memberlist `queue.go`. NB memberlist's 4 x log10(N + 1) reaches all in 88 % of runs at N = 8.
"""

from collections.abc import Callable
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
    sends: int = 0


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
            self._accusations.setdefault(subject, {})[key] = None
            self._put(key, rumour)
            return
        for accusation in self._accusations.pop(subject, ()):
            self._drop(accusation)
        self._put(("member", subject), rumour)

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
        for level in self._levels:
            for item in reversed(level.values()):
                if room < DELTA_BYTES or len(taken) >= NEWS_A_DATAGRAM_MAX - 1:
                    break
                content = item.content
                if isinstance(content, Rumour):
                    if (size := rumour_bytes(content)) > room:
                        continue
                    rumours.append(content)
                elif isinstance(content, IntentRumour):
                    if (size := intent_bytes(content)) > room:
                        continue
                    intents.append(content)
                else:
                    delta = self._cut_facts(NodeId(item.key[1]), content, room)
                    if delta is None:
                        continue
                    size = delta_bytes(delta)
                    facts.append(delta)
                room -= size
                taken.append(item)
        for item in taken:
            self._count(item, limit)
        return News(tuple(rumours), tuple(facts), tuple(intents))

    def _put(self, key: tuple[str, ...], content: Rumour | IntentRumour | int) -> None:
        self._drop(key)
        self._items[key] = self._levels[0][key] = _Item(key, content)

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

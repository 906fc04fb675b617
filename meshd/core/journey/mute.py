"""Nodes that no answer comes back from, though nobody says that they are gone: one entry's knowledge, by what came late.

A node may be alive to all and acknowledge what it is sent, and still its answers go nowhere: the way back to the entry is cut,
or the connection they left on stands still. Membership hears of it from others; only who waits for the answer notices.

Rule 1: a strike is an attempt that was late while the node was first on its route. An answer along a route clears all its nodes.
Rule 2: a node with `STRIKES_MAX` and no answer for longer than a queue may be is mute: asked last, for a spell that doubles.
    Overload makes none mute: a holder says Busy to what would wait longer.
Rule 3: when a spell ends one request tries it; the others go on around it until that one is answered.

Source: circuit breaker with a half-open state, Nygard, "Release It!", 2007.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from meshd.config import QUEUE_SLACK_US, SKIP_MAX_US, SKIP_US, STRIKES_MAX
from meshd.core.ids import NodeId


@dataclass(slots=True)
class _Standing:
    since_us: int
    """When the first attempt began that it was late with."""
    strikes: int = 0
    until_us: int = 0
    """Of its spell; 0 while it is not mute."""
    spell_us: int = SKIP_US // 2


class Mutes:
    """Standings of nodes that were late; the others have none."""

    def __init__(self) -> None:
        self._standings: dict[NodeId, _Standing] = {}

    def late(self, nodes: Iterable[NodeId], began_us: int, now_us: int) -> list[NodeId]:
        """An attempt with these first on its route is late. Returns which of them that makes mute."""
        newly = []
        silent_us = now_us - began_us + 2 * QUEUE_SLACK_US
        for node in nodes:
            standing = self._standings.setdefault(node, _Standing(began_us))
            standing.strikes += 1
            is_silent = standing.strikes >= STRIKES_MAX and now_us - standing.since_us >= silent_us
            if is_silent and not standing.until_us:
                _begin_spell(standing, now_us)
                newly.append(node)
        return newly

    def answered(self, nodes: Iterable[NodeId]) -> None:
        """An answer came along a route with these first on it."""
        if self._standings:
            for node in nodes:
                self._standings.pop(node, None)

    def is_mute(self, node: NodeId) -> bool:
        standing = self._standings.get(node)
        return standing is not None and standing.until_us > 0

    def avoided(self, now_us: int) -> dict[NodeId, None]:
        """Whom this very request should ask last."""
        avoided: dict[NodeId, None] = {}
        for node, standing in self._standings.items():
            if standing.until_us > now_us:
                avoided[node] = None
            elif standing.until_us:
                _begin_spell(standing, now_us)  # This request tries it.
        return avoided

    def forget(self, members: Iterable[NodeId]) -> None:
        """Keep only standings of `members`."""
        if self._standings:
            kept = dict.fromkeys(members)
            for node in [n for n in self._standings if n not in kept]:
                del self._standings[node]


def _begin_spell(standing: _Standing, now_us: int) -> None:
    standing.spell_us = min(2 * standing.spell_us, SKIP_MAX_US)
    standing.until_us = now_us + standing.spell_us

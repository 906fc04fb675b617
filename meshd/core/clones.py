"""Two machines with one identity: a disk image copied, a card cloned.

Each raises its boot past the other's when it hears of it, so the mesh sees one id flicker between boots. A restart
looks alike for a moment, but an ended boot returns no number.

Rule: two boots of one id that each return a fresh number three times over 5 s are a clone: both are named, the operator is
told, nothing else changes. Which of them is right is not for the mesh to say.
"""

from collections.abc import Iterable

from meshd.core.context import Context
from meshd.core.ids import Address, Boot, NodeId

PROOFS = 3
RIVALS_MAX = 64
"""Ids watched at once; more clones than that are one operator's mistake, named often enough."""
RIVAL_BOOTS_MAX = 8
"""Boots of one id watched at once: two that last are a clone, whatever a third does."""


class Clones:
    """Rival boots of one id, and what they proved."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._proofs: dict[NodeId, dict[Boot, list[int]]] = {}
        self._addresses: dict[tuple[NodeId, Boot], Address] = {}

    def proved(self, node: NodeId, boot: Boot, address: Address, *, rival: bool) -> None:
        """(node, boot) returned a fresh number; `rival` if another boot of it is taken for the member."""
        if not rival and node not in self._proofs:
            return
        if node not in self._proofs and len(self._proofs) >= RIVALS_MAX:
            self._forget(next(iter(self._proofs)))
        now_us, span_us = self._context.now_us, self._context.timers.clone_after_us
        boots = self._proofs.setdefault(node, {})
        boots.setdefault(boot, []).append(now_us)
        self._addresses[node, boot] = address
        for old in list(boots):
            # What was proven long ago was another boot's time: a restart, not a rival.
            boots[old] = [at for at in boots[old] if now_us - at < 4 * span_us][-16:]
            if not boots[old]:
                self._drop(node, old)
        while len(boots) > RIVAL_BOOTS_MAX:
            self._drop(node, min(boots, key=lambda each: boots[each][-1]))
        proven = sorted(b for b, at in boots.items() if len(at) >= PROOFS and at[-1] - at[0] >= span_us)
        if len(proven) >= 2:
            one, two = proven[-2:]
            self._context.report(
                "member.cloned", node, one=str(self._addresses[node, one]), two=str(self._addresses[node, two]),
                reason="two machines have this identity: give one of them a fresh state folder",
            )  # fmt: skip
            self._forget(node)

    def sizes(self) -> Iterable[tuple[str, int, int]]:
        """(table, entries, limit)."""
        yield ("rivals", len(self._proofs), RIVALS_MAX)
        yield ("rival boots", len(self._addresses), RIVALS_MAX * RIVAL_BOOTS_MAX)

    def _drop(self, node: NodeId, boot: Boot) -> None:
        del self._proofs[node][boot]
        self._addresses.pop((node, boot), None)

    def _forget(self, node: NodeId) -> None:
        for boot in self._proofs.pop(node, {}):
            self._addresses.pop((node, boot), None)

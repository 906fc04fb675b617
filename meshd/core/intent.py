"""What people asked for and what the mesh does about it: registry, negotiation, holdings, ownership, behind one interface.

`Node` calls nothing else of those rooms. This is the empty implementation: no deployment is ever known.
"""

from collections.abc import Mapping
from types import MappingProxyType

from meshd.core.events import Answer, Drain, Effect, Input, Operate, Refused, TimerId
from meshd.core.ids import NodeId
from meshd.core.messages import LinkMessage
from meshd.core.view import Holding, Member, Served


class Intent:
    """Deployments, plans, what this node holds."""

    draining = False
    """Published in this node's facts."""

    def start(self, now_us: int) -> list[Effect]:
        """Begin: the boot is on disk, nothing was sent yet."""
        return []

    def on_link(self, source: NodeId, message: LinkMessage, now_us: int) -> list[Effect]:
        """One of this room's own link messages."""
        return []

    def on_timer(self, id: TimerId, now_us: int) -> list[Effect]:
        """A timer whose id begins `intent/`."""
        return []

    def on_input(self, input: Input, now_us: int) -> list[Effect]:
        """Solved, Persisted, Measured, DiskChanged, Loaded, LoadFailed, Unloaded, LinkChanged, Operate."""
        if isinstance(input, Operate):
            if isinstance(input.command, Drain):
                self.draining = input.command.on
            return [Answer(input.token, Refused("UNAVAILABLE", "deployments are not built yet"))]
        return []

    def on_members(self, members: Mapping[NodeId, Member], now_us: int) -> list[Effect]:
        """Membership or facts changed."""
        return []

    def on_intent(self, source: NodeId, deployment: str, key: bytes, now_us: int) -> list[Effect]:
        """`source` says its greatest record or plan is `key`, which is not what `intents` says here: fetch it if greater."""
        return []

    def intents(self) -> tuple[tuple[str, bytes], ...]:
        """(deployment, key of the greatest record or plan), sorted: what rumours and Sync advertise."""
        return ()

    def holdings(self) -> tuple[Holding, ...]:
        """What this node holds."""
        return ()

    def reserved_bytes(self) -> int:
        """Memory promised or taken, subtracted from what is free."""
        return 0

    def served(self, now_us: int) -> Mapping[str, Served]:
        """For the View."""
        return MappingProxyType({})

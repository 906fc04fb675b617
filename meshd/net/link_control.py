"""Control links: the core's link messages between peers, in trio. (Interface; being filled.)

One link a pair in use: where both dial at once, the one dialled by the lower id stays. Bodies are opaque bytes here
(the codec is `wire`'s), at most `CONTROL_FRAME_BYTES_MAX`.
"""

from collections.abc import Callable, Sequence

import trio

from meshd.core.ids import Address, Boot, NodeId
from meshd.net.tls import Roster


class ControlLinks:
    """All control links of this node; used from its trio thread only."""

    def __init__(
        self,
        roster: Roster,
        boot: Boot,
        port: int,
        resolve: Callable[[NodeId], Sequence[Address]],
        on_message: Callable[[NodeId, bytes], None],
        on_change: Callable[[NodeId, bool], None],
    ) -> None:
        """`on_change(peer, up)`: opened; or failed (an idle link that closes in good order is no failure)."""
        raise NotImplementedError

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then all links are closed."""
        raise NotImplementedError

    def send(self, peer: NodeId, body: bytes) -> None:
        """Queue a message, dialling if need be. Never waits; `on_change(peer, False)` tells that it was dropped."""
        raise NotImplementedError

    def drop(self, peer: NodeId) -> None:
        """Close the link to `peer` at once."""
        raise NotImplementedError

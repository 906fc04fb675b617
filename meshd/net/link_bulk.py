"""Bulk links: blobs between peers, on threads and on their own connections. (Interface; being filled.)"""

from collections.abc import Callable, Iterator, Sequence

from meshd.core.ids import Address, Digest, NodeId
from meshd.net.tls import Roster


class BulkLinks:
    """Serves this node's blobs and fetches others'. Thread-safe."""

    def __init__(
        self,
        roster: Roster,
        resolve: Callable[[NodeId], Sequence[Address]],
        read: Callable[[Digest], memoryview],
    ) -> None:
        """`read` gives a blob's bytes, or raises NotFoundError."""
        raise NotImplementedError

    def fetch(self, sources: Sequence[NodeId], digest: Digest) -> Iterator[bytes]:
        """Get a blob from whoever of `sources` has it, piece by piece, going on elsewhere when one fails; blocks.

        The pieces are to be trusted only once all came and the iterator ended: it checks the digest at the end.

        Raises
        ------
        UnavailableError
            No source could give it (names what each said).
        InvalidError
            What came hashes to something else.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End all transfers."""
        raise NotImplementedError

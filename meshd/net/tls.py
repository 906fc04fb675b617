"""TLS between peers: 1.3 only, both ends pinned by key.

The roster holds the certificates of members. The listener trusts all of it, a dialler trusts exactly the one peer it dials;
after the handshake both compare the digest of the key the far end proved to have with the id they expect.

Rule 1: a certificate's names prove nothing; only its key does. Host names are not checked, keys are.
Rule 2: who is struck off loses open links at once (`on_strike`), and a ticket could not bring it back: none are issued.
"""

import ssl
import threading
from collections.abc import Callable

from meshd.core.ids import NodeId
from meshd.errors import DeniedError, InvalidError
from meshd.net.identity import Identity, identify


class Roster:
    """The certificates that links trust. Thread-safe."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._lock = threading.Lock()
        self._certificates: dict[NodeId, bytes] = {}
        self._listener: ssl.SSLContext | None = None
        self._on_strike: list[Callable[[NodeId], None]] = []

    def __contains__(self, node: NodeId) -> bool:
        return node in self._certificates

    def __len__(self) -> int:
        return len(self._certificates)

    def certificate(self, node: NodeId) -> bytes | None:
        """The certificate (DER) of `node`, if it is on the roster."""
        return self._certificates.get(node)

    def trust(self, node: NodeId, certificate: bytes) -> None:
        """Put a certificate (DER) on the roster, in place of an older one of the same key.

        Raises
        ------
        InvalidError
            It is no certificate, or its key is not the one `node` names; nothing changed.
        """
        if identify(certificate) != node:
            raise InvalidError(f"that certificate is not of node {node}")
        with self._lock:
            known = self._certificates.get(node)
            if known == certificate:
                return
            self._certificates[node] = certificate
            if known is not None:
                self._listener = None
            elif self._listener is not None:
                # Adding to a context in use is safe (OpenSSL locks its store); taking away is not possible.
                self._listener.load_verify_locations(cadata=certificate)

    def strike(self, node: NodeId) -> None:
        """Take `node` off the roster and close its links."""
        with self._lock:
            if self._certificates.pop(node, None) is None:
                return
            self._listener = None
        for close in self._on_strike:
            close(node)

    def on_strike(self, close: Callable[[NodeId], None]) -> None:
        """Call `close` with each node that is struck off, on the striker's thread."""
        self._on_strike.append(close)

    def listener_context(self) -> ssl.SSLContext:
        """For a connection that was accepted: any member may be at its far end."""
        with self._lock:
            if self._listener is None:
                self._listener = self._context(ssl.PROTOCOL_TLS_SERVER)
                for certificate in self._certificates.values():
                    self._listener.load_verify_locations(cadata=certificate)
            return self._listener

    def dialler_context(self, peer: NodeId) -> ssl.SSLContext:
        """For a connection to `peer`, and nobody else.

        Raises
        ------
        DeniedError
            `peer` is not on the roster.
        """
        certificate = self._certificates.get(peer)
        if certificate is None:
            raise DeniedError(f"node {peer} is not on the roster")
        context = self._context(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=certificate)
        return context

    def check(self, certificate: bytes | None, expected: NodeId | None = None) -> NodeId:
        """Who is at the far end, after a handshake in which it proved to have the certificate's key.

        Raises
        ------
        DeniedError
            It showed none, is not on the roster (any more), or is not `expected`.
        """
        peer = identify(certificate) if certificate else None
        if peer is None or peer not in self._certificates:
            raise DeniedError(f"the far end is {peer or 'nobody'}, who is not on the roster")
        if expected is not None and peer != expected:
            raise DeniedError(f"dialled {expected} and reached {peer}")
        return peer

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # A resumed session would skip the look at the roster.
        context.load_cert_chain(self.identity.certificate_path, self.identity.key_path)
        return context

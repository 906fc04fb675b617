"""Sealed datagrams: nobody without the mesh key can write one, read one, send one twice, or send one on to another node.

    header   = "md" | version 1 | flags 1 | first bytes of the mesh id 4 | source 16 | boot 8 | count 8    (40 bytes)
    datagram = header | ChaCha20-Poly1305(body) | tag 16

Each (source, boot) seals with its own key, BLAKE2b(mesh secret; source, boot); the nonce is its count of datagrams, so
no nonce is used twice and none comes from a clock. Header and *receiver's* id (zeros where nobody in particular is
meant, as in Join) are associated data.

Rule 1: state is kept only after a tag verified. Whoever lacks the key can make this allocate nothing.
Rule 2: of each source the greatest boot and the one before it have a window of 256 counts. A lower boot has none: what it
    sealed is opened and may be a replay. The core refuses it, and tells a node that runs from an older disk, or a clone,
    of the higher boot: turned away here, such a node would knock for ever and never learn why.
Rule 3: no clock and no randomness: `net` and the simulator run the same code.
Rule 4: this says *who sealed it, for whom, and that it did not come before in this process*. A process that restarted
    knows no counts: that (source, boot) is live now is for the core to ask (a Ping with a random number, PROTOCOL 2).

Source: the window is RFC 6479's idea, with Python's long integers as bit rings.
"""

import hashlib
import struct
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from meshd.config import DATAGRAM_BODY_BYTES_MAX, MEMBERS_MAX, PROTOCOL_VERSION, REPLAY_WINDOW, SECRETS_MAX
from meshd.core.ids import Boot, NodeId, node_bytes, node_id
from meshd.errors import MisuseError

MAGIC = b"md"
TO_ANYONE = 1
"""Flag: sealed for nobody in particular."""
_HEADER = struct.Struct("!2sBB4s16sQQ")
HEADER_BYTES = _HEADER.size
TAG_BYTES = 16
DATAGRAM_BYTES_MAX = HEADER_BYTES + DATAGRAM_BODY_BYTES_MAX + TAG_BYTES
_NOBODY = bytes(16)


@dataclass(frozen=True, slots=True)
class Keyring:
    """A mesh's id (16 bytes) and secrets (32 bytes each): the first seals, all open, so that a key can be changed."""

    mesh: bytes
    secrets: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if len(self.mesh) != 16 or not 1 <= len(self.secrets) <= SECRETS_MAX or {len(s) for s in self.secrets} != {32}:
            raise MisuseError(f"a keyring is a mesh id of 16 bytes and 1 to {SECRETS_MAX} secrets of 32 bytes")

    def __repr__(self) -> str:
        return f"Keyring({self.mesh.hex()}, {len(self.secrets)} secrets)"  # Secrets never reach a log.


class Refusal(Enum):
    """Why a datagram was refused; the values are metric labels."""

    MALFORMED = "malformed"
    """Too short, too long, or no magic: not ours, or cut."""
    VERSION = "version"
    OTHER_MESH = "other_mesh"
    """Another mesh's, by the hint in its header (proof of nothing)."""
    OWN = "own"
    """Sealed by this node in this boot: a reflection."""
    FORGED = "forged"
    """No key of ours opens it: another key, altered, or meant for another receiver."""
    REPLAYED = "replayed"
    """Its count came before, or is too old to tell."""
    TABLE_FULL = "table_full"


class Opened(NamedTuple):
    """A datagram that verified."""

    source: NodeId
    boot: Boot
    to_anyone: bool
    """Sealed for nobody in particular: only a Join may come so."""
    body: bytes


class Sealer:
    """Seals this node's datagrams in this boot. Not thread-safe: a count must never be used twice."""

    def __init__(self, keyring: Keyring, source: NodeId, boot: Boot) -> None:
        self._source, self._boot, self._mesh = node_bytes(source), boot, keyring.mesh[:4]
        self._aead = _aead(keyring.secrets[0], self._source, boot)
        self._count = 0

    def seal(self, receiver: NodeId | None, body: bytes) -> bytes:
        """Seal `body` for `receiver` (None: for nobody in particular).

        Raises
        ------
        MisuseError
            The body is longer than `DATAGRAM_BODY_BYTES_MAX`; no count was used.
        """
        if len(body) > DATAGRAM_BODY_BYTES_MAX:
            raise MisuseError(f"a datagram's body is at most {DATAGRAM_BODY_BYTES_MAX} bytes, not {len(body)}")
        flags, to = (TO_ANYONE, _NOBODY) if receiver is None else (0, node_bytes(receiver))
        self._count += 1
        header = _HEADER.pack(MAGIC, PROTOCOL_VERSION, flags, self._mesh, self._source, self._boot, self._count)
        return header + self._aead.encrypt(_nonce(self._count), body, header + to)


class Opener:
    """Opens datagrams meant for this node. `refused` counts refusals by reason."""

    def __init__(self, keyring: Keyring, me: NodeId, boot: Boot, sources_max: int = MEMBERS_MAX) -> None:
        self._keyring, self._me, self._boot, self._sources_max = keyring, node_bytes(me), boot, sources_max
        self._sources: dict[bytes, list[_Window]] = {}
        self.refused: Counter[Refusal] = Counter()

    def open(self, datagram: bytes) -> Opened | Refusal:
        """Verify and decrypt. A refusal is counted and leaves no other trace."""
        outcome = self._open(datagram)
        if isinstance(outcome, Refusal):
            self.refused[outcome] += 1
        return outcome

    def use_boot(self, boot: Boot) -> None:
        """This node raised its boot (its id was seen under another); what it knows of others stays."""
        self._boot = boot

    def proven(self, source: NodeId, boot: Boot) -> None:
        """(source, boot) answered in this process: what it sealed before that and has not come yet is refused.

        A process that restarted knows no counts, and what its earlier life received could be replayed to it.
        """
        for window in self._sources.get(node_bytes(source), []):
            if window.boot == boot:
                window.seen = _WINDOW_MASK

    def forget(self, source: NodeId) -> None:
        """Drop the windows of a source that is no member any more."""
        self._sources.pop(node_bytes(source), None)

    def __len__(self) -> int:
        """Sources with a window."""
        return len(self._sources)

    def _open(self, datagram: bytes) -> Opened | Refusal:
        if not HEADER_BYTES + TAG_BYTES <= len(datagram) <= DATAGRAM_BYTES_MAX or datagram[:2] != MAGIC:
            return Refusal.MALFORMED
        header = datagram[:HEADER_BYTES]
        _, version, flags, mesh, source, boot, count = _HEADER.unpack(header)
        if version != PROTOCOL_VERSION:
            return Refusal.VERSION
        if mesh != self._keyring.mesh[:4]:
            return Refusal.OTHER_MESH
        if flags > TO_ANYONE or count == 0:
            return Refusal.MALFORMED
        if source == self._me and boot == self._boot:
            return Refusal.OWN

        windows = self._sources.get(source, _NO_WINDOWS)
        window: _Window | None = None
        for each in windows:
            if each.boot == boot:
                window = each
                break
        is_lower = window is None and bool(windows) and boot < windows[0].boot
        # What the windows rule out costs no decryption.
        if window is not None and not window.is_fresh(count):
            return Refusal.REPLAYED
        if not windows and len(self._sources) >= self._sources_max:
            return Refusal.TABLE_FULL

        data, nonce = header + (_NOBODY if flags else self._me), _nonce(count)
        aeads = [window.aead] if window else [_aead(secret, source, boot) for secret in self._keyring.secrets]
        for aead in aeads:
            try:
                body = aead.decrypt(nonce, datagram[HEADER_BYTES:], data)
            except InvalidTag:
                continue
            if window is None and not is_lower:
                window = _Window(boot, aead)
                self._sources[source] = [window, *windows[:1]]
            if window is not None:
                window.mark(count)
            return Opened(node_id(source), Boot(boot), bool(flags), body)
        return Refusal.FORGED


class _Window:
    """Which of the last `REPLAY_WINDOW` counts of one (source, boot) came."""

    __slots__ = ("aead", "boot", "seen", "top")

    def __init__(self, boot: int, aead: ChaCha20Poly1305) -> None:
        self.boot, self.aead, self.top = boot, aead, 0
        self.seen = 0
        """Bit i: the count `top - i` came."""

    def is_fresh(self, count: int) -> bool:
        behind = self.top - count
        return behind < 0 or (behind < REPLAY_WINDOW and not self.seen >> behind & 1)

    def mark(self, count: int) -> None:
        ahead = count - self.top
        if ahead > 0:
            # A jump past the window clears it; shifting by the jump itself could make an integer of 2**64 bits.
            self.seen = (self.seen << min(ahead, REPLAY_WINDOW) | 1) & _WINDOW_MASK
            self.top = count
        else:
            self.seen |= 1 << -ahead


_NO_WINDOWS: list[_Window] = []
_WINDOW_MASK = (1 << REPLAY_WINDOW) - 1


def _aead(secret: bytes, source: bytes, boot: int) -> ChaCha20Poly1305:
    derived = hashlib.blake2b(source + boot.to_bytes(8, "big"), key=secret, digest_size=32, person=b"meshd datagram")
    return ChaCha20Poly1305(derived.digest())


def _nonce(count: int) -> bytes:
    return count.to_bytes(12, "big")

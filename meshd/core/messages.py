"""What nodes say to each other, as values: datagrams (`GossipMessage`) and control links (`LinkMessage`).

Rule 1: a message carries no absolute time and nothing the seal or the link already proves (source, boot).
Rule 2: bounds are checked by the codec before a value of these types exists; meaning is checked by who receives it.
Rule 3: a new link message is a dataclass here (or in the file of its room), one line in `LinkMessage`, one message in
`control.proto`, one pair of functions in the codec.

Fields, units and limits: `proto/meshd/v1/gossip.proto` and `control.proto`.
"""

from dataclasses import dataclass

from meshd.core.ids import Address, Boot, Digest, NodeId, SegmentId
from meshd.core.intent_messages import IntentMessage, KeptIntent
from meshd.core.view import Hold, State

# ---------------------------------------------------------------- rumours


@dataclass(frozen=True, slots=True)
class Rumour:
    """`subject` is in `state` in (boot, incarnation)."""

    state: State
    subject: NodeId
    boot: Boot
    incarnation: int
    addresses: tuple[Address, ...] = ()
    """ALIVE only: where it hears."""
    certificate_hash: int = 0
    """ALIVE only: first 8 bytes of SHA-256 of its certificate."""
    accuser: NodeId | None = None
    """SUSPECT and DEAD: who says so."""


@dataclass(frozen=True, slots=True)
class IntentRumour:
    """The greatest record or plan the sender has for a deployment. `key` means something to `core.intent` only."""

    deployment: str
    key: bytes


# ---------------------------------------------------------------- facts


@dataclass(frozen=True, slots=True)
class Hardware:
    """Fact `hardware`: what seldom changes."""

    name: str = ""
    software: str = ""
    host: str = ""
    cores: int = 1
    memory_bytes: int = 0
    numeric: str = ""
    labels: tuple[str, ...] = ()
    milliwatts: int = 0


@dataclass(frozen=True, slots=True)
class Spare:
    """Fact `capacity`: what changes with load."""

    free_bytes: int = 0
    rates: tuple[tuple[str, int], ...] = ()
    draining: bool = False


@dataclass(frozen=True, slots=True)
class LinkState:
    """Fact `link/<peer>`."""

    rtt_us: int = 0
    bandwidth_bps: int = 0
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """Fact `hold/<plan>/<segment>`. `ready_for_us` is as of the sending, for no clock is shared."""

    state: Hold
    measured_us: int = 0
    ready_for_us: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OnDisk:
    """Fact `disk/<model>`: all its blobs are there."""


FactKey = str | SegmentId | tuple[str, NodeId] | tuple[str, Digest]
"""`"hardware"`, `"capacity"`, `("link", peer)`, `("disk", model)`, or the segment held."""
FactValue = Hardware | Spare | LinkState | Held | OnDisk


@dataclass(frozen=True, slots=True)
class Fact:
    """One entry; `value` None says it is gone."""

    key: FactKey
    version: int
    value: FactValue | None


@dataclass(frozen=True, slots=True)
class FactsDelta:
    """What changed in `node`'s facts in versions (base, version], in that order; from base 0 it names tombstones too."""

    node: NodeId
    boot: Boot
    base: int
    version: int
    entries: tuple[Fact, ...]
    whole: int = 0
    """The version the sender has, where this is cut to a part of the way there; 0 where it goes all the way."""
    floor: int = 0
    """Tombstones up to this version are forgotten, so that this, from base 0 and not cut, replaces what the reader has."""

    @property
    def reaches(self) -> int:
        """The version the sender has."""
        return self.whole or self.version


@dataclass(frozen=True, slots=True)
class News:
    """What rides on a Ping, an Ack or a Spread."""

    rumours: tuple[Rumour, ...] = ()
    facts: tuple[FactsDelta, ...] = ()
    intents: tuple[IntentRumour, ...] = ()


NO_NEWS = News()

# ---------------------------------------------------------------- datagrams


@dataclass(frozen=True, slots=True)
class Accusation:
    """What a pinging node holds against the one it pings: the buddy system of Lifeguard."""

    state: State
    boot: Boot
    incarnation: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? Answered with the same number, whoever asks."""

    number: int
    health: int = 0
    accusation: Accusation | None = None
    news: News = NO_NEWS


@dataclass(frozen=True, slots=True)
class Ack:
    """I am here."""

    number: int
    health: int = 0
    news: News = NO_NEWS


@dataclass(frozen=True, slots=True)
class PingReq:
    """Ping `target` for me."""

    number: int
    target: NodeId
    address: Address


@dataclass(frozen=True, slots=True)
class PingReqAck:
    """The target answered me."""

    number: int
    target: NodeId


@dataclass(frozen=True, slots=True)
class Nack:
    """The target has not answered me, but I am here."""

    number: int
    target: NodeId


@dataclass(frozen=True, slots=True)
class Spread:
    """News alone."""

    news: News


@dataclass(frozen=True, slots=True)
class Join:
    """Let me in; prove that you are there now."""

    certificate: bytes
    nonce: int


@dataclass(frozen=True, slots=True)
class JoinAck:
    """I am (`returned` is the Join's nonce); prove it too."""

    certificate: bytes
    nonce: int
    returned: int


@dataclass(frozen=True, slots=True)
class JoinDone:
    """Here is the JoinAck's nonce."""

    returned: int


@dataclass(frozen=True, slots=True)
class CertificateAsk:
    """A rumour named you: tell me your certificate."""


@dataclass(frozen=True, slots=True)
class CertificateTell:
    """The sender's own certificate."""

    certificate: bytes


@dataclass(frozen=True, slots=True)
class FactsAsk:
    """Send what you have of `node`'s facts past this."""

    node: NodeId
    boot: Boot
    version: int


GossipMessage = (
    Ping
    | Ack
    | PingReq
    | PingReqAck
    | Nack
    | Spread
    | Join
    | JoinAck
    | JoinDone
    | CertificateAsk
    | CertificateTell
    | FactsAsk
)

# ---------------------------------------------------------------- links: anti-entropy


@dataclass(frozen=True, slots=True)
class SyncRoot:
    """One hash of all I know."""

    root: int


@dataclass(frozen=True, slots=True)
class SyncBuckets:
    """256 hashes of it."""

    hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MemberDigest:
    """How much the sender knows of a member."""

    node: NodeId
    boot: Boot
    incarnation: int
    state: State
    facts_boot: Boot
    facts_version: int
    certificate_hash: int


@dataclass(frozen=True, slots=True)
class SyncDigests:
    """What the sender has in the buckets that differ."""

    buckets: tuple[int, ...]
    members: tuple[MemberDigest, ...]
    intents: tuple[IntentRumour, ...]


@dataclass(frozen=True, slots=True)
class MemberItem:
    """What the receiver lacks of one member."""

    rumour: Rumour
    certificate: bytes = b""
    facts: FactsDelta | None = None
    age_s: int = 0
    """DEAD, LEFT: for how long already."""


@dataclass(frozen=True, slots=True)
class SyncItems:
    """What the receiver lacks, and what the sender would like."""

    members: tuple[MemberItem, ...] = ()
    wanted: tuple[MemberDigest, ...] = ()
    intents: tuple[IntentRumour, ...] = ()


SyncMessage = SyncRoot | SyncBuckets | SyncDigests | SyncItems

LinkMessage = SyncMessage | IntentMessage
"""Every message a control link may carry."""

# ---------------------------------------------------------------- kept on disk


@dataclass(frozen=True, slots=True)
class KeptBoot:
    """Under `boot`: the greatest boot count ever used."""

    count: int


@dataclass(frozen=True, slots=True)
class KeptPeer:
    """Under `peer/<node>`: where a member was last."""

    addresses: tuple[Address, ...]


Kept = KeptBoot | KeptPeer | KeptIntent
"""Every value `Persist` may carry."""

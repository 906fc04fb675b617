"""One node's control plane: `step(input, now_us) -> effects`, routed to its parts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshd.config import Timers
from meshd.core.events import Effect, Input
from meshd.core.ids import Address, NodeId
from meshd.core.rng import RngFor

Identify = Callable[[bytes], NodeId | None]
"""Certificate (DER) → the id its key hashes to; None if it is no certificate. Pure; the core cannot parse X.509."""
Sign = Callable[[bytes], bytes]
"""This node's Ed25519 signature over a record."""
Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, record, signature) → whether it holds."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, and where it hears."""

    node: NodeId
    certificate: bytes
    addresses: tuple[Address, ...]
    """Own addresses, most general first; at most ADDRESSES_MAX."""
    name: str = ""
    software: str = ""
    signing_key: bytes = b""
    """Public Ed25519 key that `sign` signs with."""


@dataclass(frozen=True, slots=True)
class Setup:
    """All a node is made of."""

    identity: Identity
    rng: RngFor
    identify: Identify
    sign: Sign
    verify: Verify
    seeds: tuple[Address, ...] = ()
    timers: Timers = field(default_factory=Timers)
    restored: Mapping[str, Any] = field(default_factory=dict)
    """What `Persist` kept in earlier lives, by key."""


class Node:
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def start(self, now_us: int) -> list[Effect]:
        """Begin a boot. Nothing is sent until the boot's Persist came back."""
        raise NotImplementedError

    def step(self, input: Input, now_us: int) -> list[Effect]:
        """Take one input in; the effects are to be performed in order."""
        raise NotImplementedError

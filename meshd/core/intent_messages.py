"""What nodes say to each other about deployments and plans, on control links; and what they keep of it on disk.

Source: the contract net, Smith 1980: offer (announcement), bid, award. NB a bid reserves nothing; an accepted award does.
"""

from dataclasses import dataclass

from meshd.core.ids import Digest
from meshd.core.plan import LayerCost, Plan
from meshd.core.registry import Record


@dataclass(frozen=True, slots=True)
class Offer:
    """Who could serve these layers? Answered by `Bid` or `Decline`."""

    number: int
    """Of this round, fresh from the planner."""
    deployment: str
    model: Digest
    layers: tuple[LayerCost, ...]


@dataclass(frozen=True, slots=True)
class Bid:
    """What the sender could do. It reserves nothing."""

    number: int
    layer_us: tuple[int, ...]
    """Time of each layer here, for one item."""
    memory_bytes: int
    """Budget for this deployment: what it holds of it included, what others hold or reserved not."""
    held: tuple[tuple[int, int], ...]
    """Layer ranges of this deployment loaded or loading here."""
    on_disk: bool
    milliwatts: int


@dataclass(frozen=True, slots=True)
class Decline:
    """The sender takes no part."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Award:
    """Serve what `plan` lists for you. Answered by `Accept` (memory is reserved) or `Reject`."""

    number: int
    plan: Plan
    gap: bool = False
    """Nothing serves: what the receiver holds of the deployment and is not listed for may go before the new is loaded."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Reserved, until a plan that names the sender arrives or 10 s have passed."""

    number: int


@dataclass(frozen=True, slots=True)
class Reject:
    """It no longer fits, or a planner who ranks better was accepted."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class IntentAsk:
    """Tell me what you have of a deployment."""

    deployment: str


@dataclass(frozen=True, slots=True)
class IntentTell:
    """The sender's heads, and the plans it keeps of them. Merged by who receives it."""

    deployment: str
    records: tuple[Record, ...]
    plans: tuple[Plan, ...]


IntentMessage = Offer | Bid | Decline | Award | Accept | Reject | IntentAsk | IntentTell


@dataclass(frozen=True, slots=True)
class KeptIntent:
    """Under `intent/<name>`: heads, plans, and the greatest epoch ever seen."""

    records: tuple[Record, ...]
    plans: tuple[Plan, ...]
    epoch: int

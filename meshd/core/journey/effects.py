"""What the shell is to do for a request. Performed in order; none waits for anything.

The *payload in hand* is what came with the input that led to these effects: a frame's payload, or a segment's outputs.
"""

from dataclasses import dataclass

from meshd.core.ids import NodeId
from meshd.core.journey.frames import (
    Ack,
    Answer,
    Busy,
    Cancel,
    Failed,
    Failure,
    Forward,
    Leg,
    Lost,
    NotHeld,
    Poison,
    RequestId,
)


@dataclass(frozen=True, slots=True)
class Send:
    """A small frame. If there is no link it is dropped."""

    peer: NodeId
    frame: Ack | Busy | NotHeld | Cancel | Lost | Failed | Poison


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the payload in hand under `leg` until `Release`."""

    leg: Leg


@dataclass(frozen=True, slots=True)
class Release:
    """The payload kept under `leg` is not needed any more."""

    leg: Leg


@dataclass(frozen=True, slots=True)
class Carry:
    """Send the Forward with the payload kept under its leg (the request's inputs for an entry's first leg).

    If there is no link: `Journey.unsent`.
    """

    peer: NodeId
    forward: Forward


@dataclass(frozen=True, slots=True)
class Compute:
    """Run the segment on the payload kept under its leg (`local`), or in hand; then `Journey.computed` or `.broke`."""

    forward: Forward
    deadline_at_us: int
    previous: NodeId
    """Whom the frame came from; this node itself at an entry's first leg."""
    cost_us: int
    """What it is expected to take."""
    local: bool


@dataclass(frozen=True, slots=True)
class Respond:
    """Send an Answer with the payload in hand. If there is no link it is dropped: the entry is the safety net."""

    peer: NodeId
    answer: Answer


@dataclass(frozen=True, slots=True)
class Finish:
    """The request is over. An Answer's outputs are the payload in hand; its inputs need not be kept any more."""

    request: RequestId
    outcome: Answer | Failure
    attempts: int


@dataclass(frozen=True, slots=True)
class Hint:
    """`events.Hinted` for the control plane."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Pair:
    """`events.PairUnreachable` for the control plane."""

    peer: NodeId
    ok: bool


Effect = Send | Keep | Release | Carry | Compute | Respond | Finish | Hint | Pair

"""What must hold, by the names that PROTOCOL gives it. Each has a checker here and a mutant of its rule in `tests/sim/mutants`.

*Safety* is checked after every step of every node, *liveness* once the faults have stopped for a while.
"""

from typing import Final

SAFETY: Final = {
    "M1": "only the subject raises its incarnation",
    "M2": "what an observer holds of one (boot, incarnation) only moves up",
    "M3": "a node never lists itself other than ALIVE unless it leaves",
    "M4": "one rumour is sent at most limit times by a node",
    "M5": "a datagram that is forged, cut, replayed or of an ended boot changes nothing",
    "M9": "memory is bounded whatever arrives",
    "C1": "versions of facts rise within a boot",
    "C2": "the merge of facts is commutative, associative and idempotent: a version is what its owner said then",
    "C3": "a reader never sees (boot, version) fall",
    "C4": "a collected tombstone never comes back",
    "C5": "facts stay in their budget of bytes",
    "R1": "the same records in any order give the same effective one",
    "R2": "causally later wins",
    "R3": "a record unsigned or altered is never stored",
    "R4": "the generation at a node never falls, and a restart goes on from its disk",
    "P1": "reserved, loading and ready memory never exceeds the budget",
    "P2": "servability is never lost by a merge",
    "P3": "a plan covers every layer once",
    "P4": "nothing is unloaded but by the rule",
    "P6": "after the last change at most one optimising move, then none for 30 minutes",
    "P8": "a plan is never dearer than everything on the best single node",
    "E1": "an answer's plan is its request's",
    "E2": "the generation with which an entry starts requests never falls",
    "E4": "no request loops",
    "E5": "a node computes only what it holds",
    "E6": "one answer a request",
    "E7": "a part of the mesh that holds ready copies of all segments keeps serving",
}
LIVENESS: Final = {
    "M6": "every crashed node is DEAD everywhere within its bound",
    "M7": "after faults stop for 60 s nobody live and connected is SUSPECT or DEAD anywhere",
    "M8": "connected nodes have equal membership digests within the convergence bound",
    "R5": "all connected nodes agree on the records",
    "P5": "a feasible connected mesh reaches a servable target, with its copies, within its bound",
    "P7": "planners settle on one target",
    "E3": "at rest exactly one owner a segment, and all agree",
}
INVARIANTS: Final = {**SAFETY, **LIVENESS}

"""What people asked for: deployment records, signed, in registers that merge.

Rule 1: a record is stored only if its signature holds and its digest is that of its content (R3).
Rule 2: the merge is union, less what another record's vector dominates: commutative, associative, idempotent (R1).
Rule 3: effective is the greatest head by (hybrid clock, digest); causally later always dominates, whatever clocks say (R2).
Invariant: a name's generation never falls (R4), for a head leaves only when another's vector covers it.

A record is never refused for its clock: it may come from a machine that believes it is ten years ago.

Source: multi-value registers with version vectors, Shapiro et al., "A comprehensive study of convergent and commutative
replicated data types", 2011, section 3.2.2; hybrid clocks, Kulkarni et al., 2014.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from meshd.config import DEPLOYMENTS_MAX, HEADS_MAX, VECTOR_ENTRIES_MAX
from meshd.core.events import Deploy
from meshd.core.ids import Boot, Digest, NodeId
from meshd.core.plan import LayerCost, Policy
from meshd.errors import ConflictError

Author = tuple[bytes, NodeId, Boot]
"""(deployer's public key, entry node, its boot): who counts an entry of a vector."""
Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class Record:
    """One deploy or retire of `name`. Immutable; `digest` covers everything but the signature."""

    name: str
    model: Digest
    layers: tuple[LayerCost, ...]
    crossings: tuple[tuple[tuple[str, str], ...], ...]
    """For each cut between adjacent layers, (tensor, encoding value) pairs."""
    input_bytes: int
    policy: Policy
    retired: bool
    vector: tuple[tuple[Author, int], ...]
    """Sorted by author."""
    clock_us: int
    """Hybrid: the wall clock, or one more than the greatest seen. Breaks ties between concurrent records, nothing else."""
    key: bytes
    """Deployer's Ed25519 public key."""
    signature: bytes = b""
    digest: Digest = field(init=False, compare=False)

    def __post_init__(self) -> None:
        content = (self.name, self.model, self.layers, self.crossings, self.input_bytes, self.policy, self.retired)
        causal = (self.vector, self.clock_us, self.key)
        # repr of tuples, lists, strings, numbers and our own dataclasses is one canonical text on every Python we support.
        text = repr(("deployment", content, causal)).encode()
        object.__setattr__(self, "digest", Digest(hashlib.sha256(text).hexdigest()))

    @property
    def signed(self) -> bytes:
        """What the signature is over."""
        return b"meshd deployment\0" + bytes.fromhex(self.digest)


class Registry:
    """Heads of every name.

    Parameters
    ----------
    verify : (public key, message, signature) → whether it holds
    """

    def __init__(self, verify: Verify) -> None:
        self._verify = verify
        self._heads: dict[str, tuple[Record, ...]] = {}
        self.refused = 0
        """Records whose signature did not hold, or for whose name there was no room."""

    def names(self) -> list[str]:
        """Every name ever deployed, sorted."""
        return sorted(self._heads)

    def heads(self, name: str) -> tuple[Record, ...]:
        """Records that no other dominates, greatest first."""
        return self._heads.get(name, ())

    def effective(self, name: str) -> Record | None:
        """The record that counts."""
        heads = self.heads(name)
        return heads[0] if heads else None

    def generation(self, name: str) -> int:
        """Sum of the pointwise maximum of all heads' vectors. NB a sum of one record's vector regresses in a merge."""
        return sum(_joined(self.heads(name)).values())

    def conflict(self, name: str) -> bool:
        """Whether two people deployed without knowing of each other: settled by the next deploy."""
        return len(self.heads(name)) > 1

    def merge(self, record: Record) -> bool:
        """Take a record in; True if it changed the heads. One that is unsigned, altered or too much changes nothing."""
        heads = self.heads(record.name)
        if any(record.digest == head.digest or _dominates(head, record) for head in heads):
            return False
        full = not heads and len(self._heads) >= DEPLOYMENTS_MAX
        if full or not self._verify(record.key, record.signed, record.signature):
            self.refused += 1
            return False
        kept = [head for head in heads if not _dominates(record, head)]
        kept = sorted([*kept, record], key=lambda r: (r.clock_us, r.digest), reverse=True)
        # NB past HEADS_MAX concurrent deploys the least go: two nodes then agree on the effective one, not on the list.
        self._heads[record.name] = tuple(kept[:HEADS_MAX])
        return record in self._heads[record.name]

    def next(self, command: Deploy, author: Author, wall_us: int, sign: Sign) -> Record:
        """The record of a deploy at this node, which dominates all heads known here. Not merged yet.

        Raises
        ------
        ConflictError
            The name's vector, or the registry, is full.
        """
        fresh = Record(
            command.name,
            command.model,
            command.layers,
            command.crossings,
            command.input_bytes,
            command.policy,
            False,
            self._counted(command.name, author),
            self._clock(command.name, wall_us),
            author[0],
        )
        return replace(fresh, signature=sign(fresh.signed))

    def retire(self, name: str, author: Author, wall_us: int, sign: Sign) -> Record:
        """The record that ends `name`, of which one is effective here. Not merged yet. Raises ConflictError as `next`."""
        before = self.effective(name)
        assert before is not None, f"retire of {name}, which was never deployed"
        vector, clock = self._counted(name, author), self._clock(name, wall_us)
        fresh = replace(before, retired=True, vector=vector, clock_us=clock, key=author[0], signature=b"")
        return replace(fresh, signature=sign(fresh.signed))

    def _counted(self, name: str, author: Author) -> tuple[tuple[Author, int], ...]:
        vector = _joined(self.heads(name))
        vector[author] = vector.get(author, 0) + 1
        if len(vector) > VECTOR_ENTRIES_MAX:
            raise ConflictError(f"{name} was deployed from {len(vector) - 1} boots: retire it and use another name")
        if name not in self._heads and len(self._heads) >= DEPLOYMENTS_MAX:
            raise ConflictError(f"the registry holds {DEPLOYMENTS_MAX} names, which is all it can")
        return tuple(sorted(vector.items()))

    def _clock(self, name: str, wall_us: int) -> int:
        return max([wall_us, *(head.clock_us + 1 for head in self.heads(name))])


def _joined(records: Iterable[Record]) -> dict[Author, int]:
    joined: dict[Author, int] = {}
    for record in records:
        for author, count in record.vector:
            joined[author] = max(joined.get(author, 0), count)
    return joined


def _dominates(later: Record, earlier: Record) -> bool:
    """Whether `later` knew of `earlier`. Equal vectors of different records are concurrent."""
    if later.vector == earlier.vector:
        return False
    counts = dict(later.vector)
    return all(counts.get(author, 0) >= count for author, count in earlier.vector)

"""The models on this node's disk: topologies, and the blobs they name.

A model is *whole* when its topology and every blob it names are here. Nothing else records that: what lies in the two
folders is the truth, so no crash can make them disagree.

Rule 1: a topology is stored before its blobs: a removal counts what a model that is still arriving will need.
Rule 2: a topology that does not parse within the limits is refused before it is stored.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from meshd.config import MODELS_KEPT_MAX, TOPOLOGY_BYTES_MAX
from meshd.core.ids import Digest
from meshd.daemon.blobs import Blobs
from meshd.errors import ConflictError, NotFoundError
from meshd.model.bundle import blobs_of, read_topology
from meshd.model.cuts import layers
from meshd.model.graph import Graph


@dataclass(frozen=True, slots=True)
class Entry:
    """One model: its graph and every blob it names, (digest, bytes) in order of first use."""

    model: Digest
    graph: Graph
    layer_count: int
    blobs: tuple[tuple[str, int], ...]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all its blobs."""
        return sum(size for _, size in self.blobs)

    def blobs_of(self, start: int, end: int) -> tuple[tuple[str, int], ...]:
        """Blobs that layers `[start, end)` need."""
        return blobs_of(self.graph, start, end) if start < end else ()


class Library:
    """The models under one folder. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.topologies = Blobs(folder / "topologies", TOPOLOGY_BYTES_MAX)
        self.blobs = Blobs(folder / "blobs")
        self._entries: dict[Digest, Entry] = {}
        self._lock = threading.RLock()

    def models(self) -> list[Entry]:
        """Every model whose topology is here, whole or not, by digest."""
        found = []
        for model in self.topologies:
            try:
                found.append(self.entry(model))
            except NotFoundError:
                continue  # Damaged or removed just now.
        return found

    def entry(self, model: Digest) -> Entry:
        """Parse a topology that is here. Raises NotFoundError, or InvalidError if an older meshd stored what this one refuses."""
        with self._lock:
            if (known := self._entries.get(model)) is None:
                known = self._entries[model] = _parse(model, bytes(self.topologies.read(model)))
            return known

    def missing(self, model: Digest) -> tuple[tuple[str, int], ...]:
        """Blobs of a model that are not here."""
        return tuple((digest, size) for digest, size in self.entry(model).blobs if digest not in self.blobs)

    def whole(self) -> tuple[Digest, ...]:
        """Models that are here whole, by digest."""
        return tuple(entry.model for entry in self.models() if not self.missing(entry.model))

    def find(self, name: str) -> Entry:
        """A model by digest, by unique start of its digest, or by its name where only one has it.

        Raises
        ------
        NotFoundError
            None is called so.
        ConflictError
            Several are.
        """
        models = self.models()
        exact = [e for e in models if e.model == name] or [
            e for e in models if e.graph.name == name or (len(name) >= 6 and e.model.startswith(name))
        ]
        if not exact:
            raise NotFoundError(f"there is no model {name!r} on this node; see: meshctl model ls")
        if len(exact) > 1:
            raise ConflictError(
                f"{name!r} names {len(exact)} models; use the digest: {', '.join(e.model[:12] for e in exact)}"
            )
        return exact[0]

    def add(self, model: Digest, topology: bytes) -> Entry:
        """Store a topology. Raises InvalidError for one that is not within the limits or hashes otherwise."""
        entry = _parse(model, topology)
        with self._lock:
            if model not in self.topologies:
                if sum(1 for _ in self.topologies) >= MODELS_KEPT_MAX:
                    raise ConflictError(f"this node keeps {MODELS_KEPT_MAX} models; remove one: meshctl model rm MODEL")
                self.topologies.write(model, [topology])
            self._entries[model] = entry
        return entry

    def add_blob(self, digest: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Store a blob of a model that was added."""
        self.blobs.write(digest, pieces)

    def read(self, digest: Digest) -> memoryview:
        """A topology's or a blob's bytes, for a peer that asks. Raises NotFoundError."""
        return (self.topologies if digest in self.topologies else self.blobs).read(digest)

    def remove(self, model: Digest) -> int:
        """Forget a model and every blob that no other one names; returns the bytes freed."""
        with self._lock:
            if model not in self.topologies:
                return 0
            gone = self.entry(model)
            self.topologies.remove(model)
            self._entries.pop(model, None)
            needed = {digest for entry in self.models() for digest, _ in entry.blobs}
            freed = 0
            for digest, size in gone.blobs:
                if digest not in needed and digest in self.blobs:
                    self.blobs.remove(digest)
                    freed += size
            return freed


def _parse(model: Digest, topology: bytes) -> Entry:
    graph = read_topology(topology)
    count = len(layers(graph))
    return Entry(model, graph, count, blobs_of(graph, 0, count))

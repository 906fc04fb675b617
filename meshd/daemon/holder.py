"""Holds segments: fetches what is missing, compiles, warms, serves them to the data plane, lets them go.

Rule 1: every `Load` is answered by `Loaded` or `LoadFailed`, every `Unload` by `Unloaded`, whatever happens between.
Rule 2: a segment that is running stays whole until its last run has let go of it, and only then is `Unloaded` said.
Rule 3: one load at a time: two compilations at once need twice the memory and are no faster on a small device.
Rule 4: of the daemons that share a cache folder one compiles at a time: the others then find the kernels there.
Rule 5: numba is imported by the first load and not before: a node that only routes never pays for it.

Per segment: (nothing) → loading → held → (nothing); an `Unload` while loading lets the load end and then drops it.
"""

import fcntl
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshd.config import TOPOLOGY_BYTES_MAX
from meshd.core import events
from meshd.core.events import Input
from meshd.core.ids import Digest, NodeId, SegmentId
from meshd.core.plan import Plan
from meshd.daemon.library import Library
from meshd.errors import InvalidError, MeshdError

if TYPE_CHECKING:
    from meshd.engine.segment import Segment

log = logging.getLogger(__name__)

NEWS_S = 5.0
"""How long a load waits to hear who has the model; gossip takes some tenths of a second."""


Fetch = Callable[[Sequence[NodeId], Digest], Iterator[bytes]]
"""The bulk link: a topology's or blob's pieces from whichever source has it, checked at the end; blocks.

Raises UnavailableError when no source gave it, InvalidError when what came was not it.
"""


@dataclass(frozen=True, slots=True)
class Holding:
    """A segment in memory. Whoever took it keeps it alive until the run ends."""

    id: SegmentId
    plan: Plan
    segment: "Segment"
    measured_us: int


class Holder:
    """What this node holds. `perform` is the driver's; `get` is for any thread.

    Parameters
    ----------
    library : the models on this disk
    fetch : gets what is missing from a peer
    sources : nodes that have a model whole, best first
    answer : puts an input into the driver's inbox
    compile : `engine.segment.compile_segment`, or a fake; None imports it when first needed
    turn : file whose lock is held while compiling
    """

    def __init__(
        self,
        library: Library,
        fetch: Fetch,
        sources: Callable[[Digest], Sequence[NodeId]],
        answer: Callable[[Input], None],
        compile: Callable[..., "Segment"] | None = None,
        turn: Path | None = None,
    ) -> None:
        self._library, self._fetch_from, self._sources, self._answer = library, fetch, sources, answer
        self._compile, self._turn = compile, turn
        self._lock = threading.Lock()
        self._held: dict[SegmentId, Holding] = {}
        self._loading: dict[SegmentId, bool] = {}
        """Value: still wanted."""
        self._loads = ThreadPoolExecutor(1, "load")
        self._fetches = ThreadPoolExecutor(1, "fetch")

    def perform(self, effect: events.Load | events.Unload | events.Fetch | events.Discard) -> None:
        """Begin what the core asks for; returns at once."""
        match effect:
            case events.Load(segment, plan):
                self._begin_load(segment, plan)
            case events.Unload(segment):
                self._begin_unload(segment)
            case events.Fetch(model, sources):
                self._fetches.submit(self._guard, self._fetch, model, sources)
            case events.Discard(model):
                self._fetches.submit(self._guard, self._discard, model)

    def fetch_topology(self, model: Digest, then: Callable[[], None]) -> None:
        """Have a model's topology be here, and call `then` on the fetching thread whether or not that worked."""
        self._fetches.submit(self._guard, self._topology, model, then)

    def announce(self) -> None:
        """Tell the core which models are whole: at the start, and whenever that may have changed."""
        self._answer(events.DiskChanged(self._library.whole()))

    def get(self, segment: SegmentId) -> Holding | None:
        """A segment this node may compute, or None. Cheap: asked for every frame."""
        return self._held.get(segment)  # One dictionary look-up is atomic.

    def close(self, wait: bool = False) -> None:
        """Take no more work. Without `wait`, what runs is left to end by itself or with the process."""
        self._loads.shutdown(wait, cancel_futures=True)
        self._fetches.shutdown(wait, cancel_futures=True)

    def _begin_load(self, segment: SegmentId, plan: Plan) -> None:
        with self._lock:
            held = self._held.get(segment)
            if held is None:
                if segment in self._loading:
                    self._loading[segment] = True  # Wanted again before it was dropped.
                    return
                self._loading[segment] = True
        if held is not None:
            self._answer(events.Loaded(segment, held.segment.resident_bytes, held.measured_us))
        else:
            self._loads.submit(self._guard, self._load, segment, plan)

    def _begin_unload(self, segment: SegmentId) -> None:
        with self._lock:
            if segment in self._loading:
                self._loading[segment] = False  # Answered when the load ends.
                return
            held = self._held.pop(segment, None)
        if held is None:
            self._answer(events.Unloaded(segment))
            return
        # Answered when the last run that took it has let it go: then its memory is really free.
        weakref.finalize(held.segment, self._answer, events.Unloaded(segment)).atexit = False
        del held
        gc.collect(1)  # Should a compiled segment hold a cycle.

    def _load(self, segment: SegmentId, plan: Plan) -> None:
        held: Holding | None = None
        failed = "a bug while loading: see the log of this node"
        try:
            held = self._compiled(segment, plan)
        except MeshdError as error:
            failed = str(error)
        except MemoryError:
            failed = "out of memory while loading; lower memory_max, or give the device less to do"
        finally:
            self._end_load(segment, held, failed)

    def _end_load(self, segment: SegmentId, held: Holding | None, failed: str) -> None:
        with self._lock:
            wanted = self._loading.pop(segment)
            if wanted and held is not None:
                self._held[segment] = held
        if not wanted:
            self._answer(events.Unloaded(segment))
        elif held is not None:
            self._answer(events.Loaded(segment, held.segment.resident_bytes, held.measured_us))
        else:
            log.warning("segment %d of plan %s not loaded: %s", segment.index, segment.plan[:12], failed)
            self._answer(events.LoadFailed(segment, failed))

    def _compiled(self, segment: SegmentId, plan: Plan) -> Holding:
        part = plan.segments[segment.index]
        self._get(plan.model, self._known_sources(plan.model), (part.start, part.end))
        if self._compile is None:
            from meshd.engine.segment import compile_segment

            self._compile = compile_segment
        graph = self._library.entry(plan.model).graph
        with _turn(self._turn):
            compiled = self._compile(graph, part.start, part.end, self._library.blobs.read)
            return Holding(segment, plan, compiled, compiled.warm())

    def _known_sources(self, model: Digest) -> Sequence[NodeId]:
        """Who has the model; a plan may come a moment before the news of who that is."""
        until = time.monotonic() + NEWS_S
        while model not in self._library.whole() and not self._sources(model) and time.monotonic() < until:
            time.sleep(0.05)
        return self._sources(model)

    def _fetch(self, model: Digest, sources: Sequence[NodeId]) -> None:
        try:
            self._get(model, sources, None)
        finally:
            self.announce()

    def _topology(self, model: Digest, then: Callable[[], None]) -> None:
        try:
            self._get(model, self._sources(model), (0, 0))
        finally:
            then()

    def _discard(self, model: Digest) -> None:
        log.info("discarded model %s: %d bytes freed", model[:12], self._library.remove(model))
        self.announce()

    def _get(self, model: Digest, sources: Sequence[NodeId], layers: tuple[int, int] | None) -> None:
        """Make a model's topology and the blobs of `layers` (None: all) be here."""
        if model not in self._library.topologies:
            topology = bytearray()
            for piece in self._fetch_from(sources, model):
                topology += piece
                if len(topology) > TOPOLOGY_BYTES_MAX:
                    raise InvalidError(f"model {model[:12]}: a topology is at most {TOPOLOGY_BYTES_MAX} bytes")
            self._library.add(model, bytes(topology))
        entry = self._library.entry(model)
        for digest, _ in entry.blobs if layers is None else entry.blobs_of(*layers):
            if digest not in self._library.blobs:
                self._library.add_blob(digest, self._fetch_from(sources, Digest(digest)))
        if not self._library.missing(model):
            self.announce()

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        # A pool swallows exceptions; a bug must not pass in silence. Operating errors are logged and stay here.
        try:
            work(*arguments)
        except MeshdError as error:
            log.warning("%s", error)
        except BaseException:
            log.exception("bug in the holder")
            raise


@contextmanager
def _turn(place: Path | None) -> Iterator[None]:
    descriptor = None
    with suppress(OSError):  # A cache that cannot be written is not shared either.
        if place is not None:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(place, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # Let go when it closes, or the process ends.
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)

"""The holder answers every effect once, whatever happens between, and the library keeps whole models."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from meshd.core import events
from meshd.core.ids import Boot, Digest, NodeId, SegmentId
from meshd.core.plan import Encoding, Plan, PlanSegment
from meshd.core.view import Served, View, empty_view
from meshd.daemon.holder import Holder
from meshd.daemon.library import Library
from meshd.daemon.signatures import SignatureBook
from meshd.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from tests.daemon.models import small_bundle

BUNDLE = small_bundle()
PEER = NodeId("peer")


def plan_of(model: Digest = BUNDLE.digest) -> Plan:
    segments = (PlanSegment(0, 1, (("b", Encoding.FLOAT32),), (PEER,)), PlanSegment(1, 2, (), (PEER,)))
    return Plan("demo", 1, Digest("r"), 1, model, segments, 1, PEER, 1)


PLAN = plan_of()
FIRST = SegmentId(PLAN.plan_digest, 0)


class FakeSegment:
    """A compiled segment that weighs nothing."""

    resident_bytes = 100
    kernels = {"dense": 1}  # noqa: RUF012

    def warm(self) -> int:
        return 7


class World:
    """A holder whose peer has the small model."""

    def __init__(self, folder: Path, compile: Callable[..., Any] | None = None, turn: Path | None = None) -> None:
        self.library = Library(folder)
        self.asked: list[str] = []
        self.peer_has = {BUNDLE.digest: BUNDLE.topology, **BUNDLE.blobs}
        self.answers: queue.Queue[Any] = queue.Queue()
        made = compile or (lambda *_: FakeSegment())
        self.holder = Holder(self.library, self.fetch, lambda _: [PEER], self.answers.put, made, turn)

    def fetch(self, sources: Sequence[NodeId], digest: Digest) -> Iterator[bytes]:
        self.asked.append(digest)
        if digest not in self.peer_has:
            raise UnavailableError("no source has it")
        raw = self.peer_has[digest]
        yield from (raw[:10], raw[10:])

    def next(self) -> Any:
        return self.answers.get(timeout=20)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.holder.close()


def test_a_load_fetches_only_what_its_layers_need_and_says_what_it_takes(world: World) -> None:
    world.holder.perform(events.Load(FIRST, PLAN))
    assert world.next() == events.Loaded(FIRST, 100, 7)
    assert world.asked == [BUNDLE.digest, next(iter(BUNDLE.blobs))]
    held = world.holder.get(FIRST)
    assert held is not None
    assert held.plan == PLAN
    world.holder.perform(events.Load(FIRST, PLAN))
    assert world.next() == events.Loaded(FIRST, 100, 7)
    assert len(world.asked) == 2


def test_an_unload_is_answered_only_when_the_last_run_let_go(world: World) -> None:
    world.holder.perform(events.Load(FIRST, PLAN))
    world.next()
    running = world.holder.get(FIRST)
    world.holder.perform(events.Unload(FIRST))
    assert world.holder.get(FIRST) is None
    with pytest.raises(queue.Empty):
        world.answers.get(timeout=0.05)
    del running
    assert world.next() == events.Unloaded(FIRST)


def test_an_unload_of_what_is_not_held_is_answered(world: World) -> None:
    world.holder.perform(events.Unload(FIRST))
    assert world.next() == events.Unloaded(FIRST)


def test_an_unload_while_loading_ends_the_segment_and_a_second_load_keeps_it(tmp_path: Path) -> None:
    may_end = threading.Event()

    def compile(*_: Any) -> FakeSegment:
        may_end.wait(20)
        return FakeSegment()

    world = World(tmp_path, compile)
    world.holder.perform(events.Load(FIRST, PLAN))
    world.holder.perform(events.Unload(FIRST))
    may_end.set()
    assert world.next() == events.Unloaded(FIRST)
    assert world.holder.get(FIRST) is None
    may_end.clear()
    world.holder.perform(events.Load(FIRST, PLAN))
    world.holder.perform(events.Unload(FIRST))
    world.holder.perform(events.Load(FIRST, PLAN))
    may_end.set()
    assert world.next() == events.Loaded(FIRST, 100, 7)
    world.holder.close()


def test_a_load_that_cannot_be_fetched_or_compiled_says_why(tmp_path: Path) -> None:
    def broken(*_: Any) -> FakeSegment:
        raise InvalidError("a weight is not what it must be")

    world = World(tmp_path, broken)
    world.holder.perform(events.Load(FIRST, PLAN))
    assert world.next() == events.LoadFailed(FIRST, "a weight is not what it must be")
    world.peer_has.clear()
    second = SegmentId(PLAN.plan_digest, 1)
    world.holder.perform(events.Load(second, PLAN))
    assert world.next() == events.LoadFailed(second, "no source has it")
    world.holder.close()


def test_a_bug_while_loading_is_answered_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def buggy(*_: Any) -> FakeSegment:
        raise ZeroDivisionError

    world = World(tmp_path, buggy)
    world.holder.perform(events.Load(FIRST, PLAN))
    answer = world.next()
    assert isinstance(answer, events.LoadFailed)
    assert "log" in answer.reason
    world.holder.close(wait=True)
    assert "bug in the holder" in caplog.text


def test_a_blob_that_is_not_what_was_asked_for_is_not_kept(world: World) -> None:
    world.peer_has[next(iter(BUNDLE.blobs))] = b"something else"  # type: ignore[index]
    world.holder.perform(events.Load(FIRST, PLAN))
    answer = world.next()
    assert isinstance(answer, events.LoadFailed)
    assert "hash to" in answer.reason
    assert list(world.library.blobs) == []


def test_fetch_brings_the_whole_model_and_says_so_and_discard_frees_it(world: World) -> None:
    world.holder.perform(events.Fetch(BUNDLE.digest, (PEER,)))
    assert world.next() == events.DiskChanged((BUNDLE.digest,))
    world.next()
    world.holder.perform(events.Discard(BUNDLE.digest))
    assert world.next() == events.DiskChanged(())
    assert list(world.library.blobs) == []


def test_a_fetch_that_fails_tells_what_is_there(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.peer_has.clear()
    world.holder.perform(events.Fetch(BUNDLE.digest, (PEER,)))
    assert world.next() == events.DiskChanged(())
    world.holder.close(wait=True)
    assert "no source has it" in caplog.text


def test_the_book_learns_a_signature_once_the_topology_is_here(world: World) -> None:
    learnt = threading.Event()

    def fetch(model: Digest, then: Callable[[], None]) -> None:
        world.holder.fetch_topology(model, lambda: (then(), learnt.set()))

    book = SignatureBook(world.library, fetch)
    served: Any = Served("demo", BUNDLE.digest, 1, Digest("r"), None, None, None)  # type: ignore[arg-type]
    view = View(1, PEER, empty_view(PEER, 0).boot, {}, {"demo": served})  # type: ignore[arg-type]
    book.update(view)
    assert learnt.wait(20)
    signature = book.signature("demo")
    assert signature is not None
    assert [port.name for port in signature.inputs + signature.outputs] == ["x", "y"]
    assert book.signature("other") is None
    assert world.asked == [BUNDLE.digest]
    book.update(View(2, PEER, view.boot, {}, {}))
    assert book.signature("demo") is None


def test_a_topology_that_nobody_gave_is_asked_for_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshd.daemon.signatures.AGAIN_S", 0.0)
    ended = threading.Semaphore(0)

    def fetch(model: Digest, then: Callable[[], None]) -> None:
        world.holder.fetch_topology(model, lambda: (then(), ended.release()))

    book = SignatureBook(world.library, fetch)
    given, world.peer_has = world.peer_has, {}
    served: Any = Served("demo", BUNDLE.digest, 1, Digest("r"), None, None, None)  # type: ignore[arg-type]
    view = View(1, PEER, Boot(0), {}, {"demo": served})
    book.update(view)
    assert ended.acquire(timeout=20)
    assert book.signature("demo") is None
    world.peer_has = given
    book.update(view)
    assert ended.acquire(timeout=20)
    assert book.signature("demo") is not None


def test_a_model_is_found_by_name_digest_and_the_start_of_it(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.add(BUNDLE.digest, BUNDLE.topology)
    assert library.find("small").model == BUNDLE.digest
    assert library.find(BUNDLE.digest[:8]).model == BUNDLE.digest
    assert len(library.missing(BUNDLE.digest)) == 2
    assert library.whole() == ()
    other = small_bundle(scale=2)
    library.add(other.digest, other.topology)
    with pytest.raises(ConflictError, match="names 2 models"):
        library.find("small")
    with pytest.raises(NotFoundError, match="model ls"):
        library.find("large")


def test_removing_a_model_keeps_blobs_that_another_one_needs(tmp_path: Path) -> None:
    library = Library(tmp_path)
    twin = small_bundle("twin")
    for bundle in (BUNDLE, twin):
        library.add(bundle.digest, bundle.topology)
        for digest, blob in bundle.blobs.items():
            library.add_blob(digest, [blob])
    assert library.whole() == tuple(sorted((BUNDLE.digest, twin.digest)))
    assert library.remove(twin.digest) == 0
    assert library.whole() == (BUNDLE.digest,)
    assert library.remove(BUNDLE.digest) == 512
    assert library.remove(BUNDLE.digest) == 0


def test_a_topology_that_does_not_parse_or_hashes_otherwise_is_refused(tmp_path: Path) -> None:
    library = Library(tmp_path)
    with pytest.raises(InvalidError):
        library.add(Digest("0" * 64), b"\xff\xff\xff")
    with pytest.raises(InvalidError, match="hash to"):
        library.add(Digest("0" * 64), BUNDLE.topology)
    assert library.models() == []


def test_daemons_that_share_a_cache_compile_in_turn(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []
    both = threading.Barrier(2)

    def compile(*_: Any) -> FakeSegment:
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.02)  # Long enough for the other to come in, were it let.
        inside.pop()
        return FakeSegment()

    def load(world: World) -> None:
        both.wait(20)
        world.holder.perform(events.Load(FIRST, PLAN))
        assert isinstance(world.next(), events.Loaded)

    worlds = [World(tmp_path / name, compile, tmp_path / "cache" / "compile.lock") for name in ("a", "b")]
    threads = [threading.Thread(target=load, args=(world,)) for world in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]
    for world in worlds:
        world.holder.close()

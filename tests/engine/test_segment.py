"""A segment gives the same bits whole, in pieces, in batches, from many threads; and the truth within rounding."""

import itertools
import threading

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from meshd.engine import threads
from meshd.engine.segment import Segment, compile_segment, decode, encode
from meshd.errors import InvalidError, MisuseError, NotFoundError
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_bytes
from tests.kernels.driving import needs_numba
from tests.model.networks import demo_like, model, node

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def packed() -> bundle.Bundle:
    return bundle.pack(*import_bytes(demo_like(), "demo"))


@pytest.fixture(params=[pytest.param("compiled", marks=needs_numba), "references"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "references":
        monkeypatch.setenv("MESHD_NUMBA", "0")
    return str(request.param)


@pytest.fixture(scope="module")
def images() -> Array:
    return np.random.default_rng(5).standard_normal((4, 1, 12, 12)).astype(np.float32)


def _segment(packed: bundle.Bundle, start: int, end: int) -> Segment:
    return compile_segment(packed.graph, start, end, packed.blobs.__getitem__)


def _pieces(packed: bundle.Bundle, edges: list[int], x: Array) -> Array:
    """Run piece after piece, through the wire's encoding."""
    graph, values = packed.graph, [x]
    for start, end in itertools.pairwise(edges):
        piece = _segment(packed, start, end)
        values = piece.run(values)
        crossing = cuts.crossing(graph, end - 1)
        if crossing:
            raw = [bytes(encode(v, e)) for v, (_, e) in zip(values, crossing, strict=True)]
            assert sum(map(len, raw)) == len(x) * cuts.costs(graph)[end - 1].crossing_bytes
            values = [decode(r, e, p, len(x)) for r, (_, e), p in zip(raw, crossing, piece.outputs, strict=True)]
    return values[0]


def test_answers_are_those_of_onnx_within_rounding(packed: bundle.Bundle, images: Array, kind: str) -> None:
    (truth,) = ReferenceEvaluator(demo_like()).run(None, {"image": images})
    (ours,) = _segment(packed, 0, len(cuts.layers(packed.graph))).run([images])
    assert np.allclose(ours, truth, rtol=1e-4, atol=1e-5)


def test_every_cut_and_every_pair_of_cuts_gives_the_same_bits(packed: bundle.Bundle, images: Array, kind: str) -> None:
    end = len(cuts.layers(packed.graph))
    (whole,) = _segment(packed, 0, end).run([images])
    for count in (1, 2):
        for places in itertools.combinations(range(1, end), count):
            assert np.array_equal(_pieces(packed, [0, *places, end], images), whole), places


@pytest.mark.parametrize("cores", [1, 3])
def test_a_batch_is_its_items_bit_for_bit(packed: bundle.Bundle, cores: int, kind: str) -> None:
    segment = _segment(packed, 0, len(cuts.layers(packed.graph)))
    assert segment.group > 1
    images = np.random.default_rng(6).standard_normal((2 * segment.group + 5, 1, 12, 12)).astype(np.float32)
    alone = np.concatenate([segment.run([images[i : i + 1]])[0] for i in range(len(images))])
    threads.use(cores)
    try:
        for batch in (2, segment.group, segment.group + 1, len(images)):
            assert np.array_equal(segment.run([images[:batch]])[0], alone[:batch]), batch
            assert np.array_equal(segment.run([images[-batch:]])[0], alone[-batch:]), batch
    finally:
        threads._crew.clear()


def test_what_is_large_is_computed_one_item_after_another() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), node("GlobalAveragePool", ["c"], ["y"])]
    raw = model(nodes, {"x": ["N", 8, 128, 128]}, ["y"], {"w": np.ones((8, 8, 3, 3), np.float32)})
    large = bundle.pack(*import_bytes(raw, "large"))
    segment = _segment(large, 0, 1)
    assert segment.group == 1
    x = np.random.default_rng(0).standard_normal((3, 8, 128, 128)).astype(np.float32)
    assert np.array_equal(segment.run([x])[0][2:], segment.run([x[2:]])[0])


def test_many_threads_get_their_own_answers(packed: bundle.Bundle, images: Array) -> None:
    segment = _segment(packed, 0, len(cuts.layers(packed.graph)))
    truth = [segment.run([images[i : i + 1]])[0] for i in range(4)]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(20) if not np.array_equal(segment.run([images[i : i + 1]])[0], truth[i]))

    callers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in callers:
        t.start()
    for t in callers:
        t.join()
    assert not wrong


def test_answers_belong_to_the_caller(packed: bundle.Bundle, images: Array) -> None:
    segment = _segment(packed, 0, 2)
    (first,) = segment.run([images])
    kept = first.copy()
    segment.run([images[::-1].copy()])
    assert np.array_equal(first, kept)


@needs_numba
def test_layers_are_counted_by_kernel_class(packed: bundle.Bundle) -> None:
    kernels = _segment(packed, 0, len(cuts.layers(packed.graph))).kernels
    assert kernels["binary"] == 1
    assert kernels["dense"] >= 3
    assert sum(kernels.values()) == len(cuts.layers(packed.graph))


def test_the_arena_is_hardly_more_than_what_is_alive(packed: bundle.Bundle) -> None:
    segment = _segment(packed, 0, len(cuts.layers(packed.graph)))
    assert segment.live_bytes <= segment.arena_bytes <= 1.2 * segment.live_bytes
    assert segment.resident_bytes > segment.arena_bytes


def test_warm_tells_microseconds_and_layers_theirs(packed: bundle.Bundle) -> None:
    segment = _segment(packed, 1, 3)
    assert segment.warm() > 0
    assert set(segment.layer_us()) == {1, 2}


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [np.zeros((1, 1, 12, 12), np.float64)],
        [np.zeros((1, 1, 12, 11), np.float32)],
        [np.zeros((1, 1, 12), np.float32)],
        [np.zeros((1, 1, 12, 12), np.float32)] * 2,
    ],
)
def test_inputs_that_do_not_fit_are_refused(packed: bundle.Bundle, inputs: list[Array]) -> None:
    with pytest.raises(MisuseError):
        _segment(packed, 0, 1).run(inputs)


def test_a_blob_of_the_wrong_size_and_a_missing_one_are_told(packed: bundle.Bundle) -> None:
    with pytest.raises(InvalidError, match="ends before weight"):
        compile_segment(packed.graph, 0, 1, lambda _: b"")

    def none(digest: str) -> bytes:
        raise NotFoundError(digest)

    with pytest.raises(NotFoundError):
        compile_segment(packed.graph, 0, 1, none)
    with pytest.raises(InvalidError, match=r"layers \[0, 99\)"):
        compile_segment(packed.graph, 0, 99, packed.blobs.__getitem__)

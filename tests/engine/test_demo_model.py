"""The model that ships with meshd: as accurate as its card says, and the same bits however it is cut."""

import itertools
import json
from importlib.resources import files

import numpy as np
import pytest
from numpy.typing import NDArray

from meshd.engine.segment import compile_segment, decode, encode
from meshd.kernels import registry
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_bytes

DEMO = files("meshd.demo")


@pytest.fixture(scope="module")
def packed() -> bundle.Bundle:
    return bundle.pack(*import_bytes(DEMO.joinpath("fashion.onnx").read_bytes(), "fashion"))


@pytest.fixture(scope="module")
def sample() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with DEMO.joinpath("fashion_sample.npz").open("rb") as file, np.load(file) as held:
        return held["images"].astype(np.float32).reshape(-1, 1, 28, 28) / 255, held["labels"].astype(np.int64)


def test_it_answers_as_many_right_as_its_card_says(
    packed: bundle.Bundle, sample: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> None:
    card = json.loads(DEMO.joinpath("fashion.json").read_text())["accuracy"]["sample"]
    images, labels = sample
    segment = compile_segment(packed.graph, 0, len(cuts.layers(packed.graph)), packed.blobs.__getitem__)
    (logits,) = segment.run([images])
    # Rounding may turn a sign, and a sign an answer: one image in a thousand either way.
    assert abs(int((logits.argmax(1) == labels).sum()) - card["correct"]) <= 1
    assert card["total"] == len(labels)


def test_every_kind_of_layer_is_there_and_runs_in_its_kernel(packed: bundle.Bundle) -> None:
    segment = compile_segment(packed.graph, 0, len(cuts.layers(packed.graph)), packed.blobs.__getitem__)
    assert segment.kernels["binary"] >= 2
    if registry.compiled():
        assert segment.kernels["sparse"] >= 1
    kinds = {kind for cost in cuts.costs(packed.graph) for kind, _ in cost.macs}
    assert kinds >= {"binary", "sparse", "dense"}


def test_every_pair_of_cuts_gives_the_same_bits(
    packed: bundle.Bundle, sample: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> None:
    graph, x = packed.graph, sample[0][:3]
    end = len(cuts.layers(graph))
    pieces = {
        (a, b): compile_segment(graph, a, b, packed.blobs.__getitem__)
        for a, b in itertools.combinations(range(end + 1), 2)
    }
    (whole,) = pieces[0, end].run([x])
    for places in itertools.chain.from_iterable(itertools.combinations(range(1, end), n) for n in (1, 2, end - 1)):
        values = [x]
        for a, b in itertools.pairwise((0, *places, end)):
            values = pieces[a, b].run(values)
            crossing = cuts.crossing(graph, b - 1)
            if crossing:
                made = zip(values, crossing, pieces[a, b].outputs, strict=True)
                values = [decode(bytes(encode(v, e)), e, p, len(x)) for v, (_, e), p in made]
        assert np.array_equal(values[0], whole), places

"""The nine `light_*` networks inside the onnx wheel: the outputs that came with them, whole and in 2, 3 and 5 pieces.

Their weights are constants of one value, hundreds of megabytes once made; the three with the most are left to
`MESHD_HEAVY=1`.
"""

import itertools
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from meshd.engine.segment import compile_segment, decode, encode
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_model

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
HEAVY = {"bvlc_alexnet", "zfnet512", "vgg19"}
NAMES = ["squeezenet", "shufflenet", "inception_v1", "inception_v2", "resnet50", "densenet121", *sorted(HEAVY)]


@pytest.mark.parametrize("name", NAMES)
def test_a_light_model_gives_what_came_with_it_whole_and_in_pieces(name: str) -> None:
    if name in HEAVY and not os.environ.get("MESHD_HEAVY"):
        pytest.skip("NOT TESTED: set MESHD_HEAVY=1 and have 4 GB free")
    packed = bundle.pack(*import_model(FOLDER / f"light_{name}.onnx"))
    graph = packed.graph
    end = len(cuts.layers(graph))
    shape = tuple(1 if d is None else d for d in graph.inputs[0].type.shape)
    count = int(np.prod(shape))
    inputs = [(np.arange(count).reshape(shape) / count).astype(np.float32)]
    whole = compile_segment(graph, 0, end, packed.blobs.__getitem__)
    (answer,) = whole.run(inputs)
    truth = numpy_helper.to_array(onnx.load_tensor(FOLDER / f"light_{name}_output_0.pb"))
    assert np.allclose(answer, truth.reshape(answer.shape), rtol=1e-3, atol=1e-7)

    for pieces in (2, 3, 5):
        edges = sorted({0, end, *(round(i * end / pieces) for i in range(1, pieces))})
        values = inputs
        for start, stop in itertools.pairwise(edges):
            piece = compile_segment(graph, start, stop, packed.blobs.__getitem__)
            values, crossing = piece.run(values), cuts.crossing(graph, stop - 1)
            if crossing:
                sent = [bytes(encode(v, e)) for v, (_, e) in zip(values, crossing, strict=True)]
                values = [decode(r, e, p, 1) for r, (_, e), p in zip(sent, crossing, piece.outputs, strict=True)]
        assert np.array_equal(values[0], answer), pieces

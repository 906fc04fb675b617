"""Times a model's file in one peer, for `meshd bench kernels --peers`. Stands alone: it also runs in a peer's own environment.

usage: python peer_program.py PEER MODEL; prints {"version": ..., "us": median of one item, one thread}
"""

import json
import statistics
import sys
import time
from typing import Any

import numpy as np


def _onnxruntime(path: str) -> tuple[str, Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
    feed = {v.name: np.ones(v.shape, kinds[v.type]) for v in session.get_inputs()}
    return ort.__version__, lambda: session.run(None, feed)


def _openvino(path: str) -> tuple[str, Any]:
    import openvino as ov  # type: ignore[import-not-found]

    # NB without the hint it computes in bfloat16 and says nothing.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(path, "CPU", hints).create_infer_request()
    shape = tuple(request.model_inputs[0].shape)
    x = np.ones(shape, np.float32)
    return ov.__version__, lambda: request.infer([x])


def _deepsparse(path: str) -> tuple[str, Any]:
    import deepsparse  # type: ignore[import-not-found]

    engine = deepsparse.compile_model(path, batch_size=1, num_cores=1)
    feed = [np.ones(shape, np.float32) for shape in engine.input_shapes]
    return deepsparse.__version__, lambda: engine.run(feed)


def _litert(path: str) -> tuple[str, Any]:
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-not-found]

    def made(resolver: Any) -> Any:
        one = Interpreter(path, num_threads=1, experimental_op_resolver_type=resolver)
        one.allocate_tensors()
        for detail in one.get_input_details():
            one.set_tensor(detail["index"], np.ones(detail["shape"], detail["dtype"]))
        return one.invoke

    # With its delegate XNNPACK and without: whichever is faster.
    ways = [made(way) for way in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)]
    return version("ai-edge-litert"), min(ways, key=_quick)


def _larq(path: str) -> tuple[str, Any]:
    from importlib import util
    from importlib.metadata import version

    # NB the package itself imports TensorFlow, for its converter; its interpreter does not.
    package = util.find_spec("larq_compute_engine")
    assert package is not None
    assert package.submodule_search_locations is not None
    place = f"{package.submodule_search_locations[0]}/tflite/python/interpreter_wrapper_lite.so"
    spec = util.spec_from_file_location("interpreter_wrapper_lite", place)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with open(path, "rb") as file:
        data = file.read()
    ways = []
    for indirect in (False, True):
        one = module.LiteInterpreter(data, 1, False, indirect, False)
        x = [np.ones(shape, np.float32) for shape in one.input_shapes]
        ways.append(lambda one=one, x=x: one.predict(x))
    return version("larq-compute-engine"), min(ways, key=_quick)


def _quick(work: Any) -> float:
    """The best of a few runs."""
    found = []
    for _ in range(10):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return min(found)


PEERS = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "deepsparse": _deepsparse,
    "ai_edge_litert": _litert,
    "larq_compute_engine": _larq,
}
READS = {"ai_edge_litert": "tflite", "larq_compute_engine": "lce"}
"""The format of a peer's files, where it is not ONNX."""


def median_us(work: Any) -> float:
    """After five runs to warm up, the median of at least 30 runs and a second."""
    for _ in range(5):
        work()
    found: list[float] = []
    end = time.perf_counter() + 1
    while len(found) < 30 or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return statistics.median(found) * 1e6


def main() -> None:
    """Load, time, tell."""
    version, work = PEERS[sys.argv[1]](sys.argv[2])
    print(json.dumps({"version": version, "us": median_us(work)}))


if __name__ == "__main__":
    main()

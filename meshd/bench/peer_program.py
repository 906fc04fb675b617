"""Times an ONNX file in one peer, for `meshd bench kernels --peers`. Stands alone: it also runs in a peer's own environment.

usage: python peer_program.py PEER MODEL.onnx; prints {"version": ..., "us": median of one item, one thread}
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
    feed = {v.name: np.ones(v.shape, np.float32) for v in session.get_inputs()}
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


PEERS = {"onnxruntime": _onnxruntime, "openvino": _openvino, "deepsparse": _deepsparse}


def main() -> None:
    """Warm up, then the median of at least 30 runs and a second."""
    version, work = PEERS[sys.argv[1]](sys.argv[2])
    for _ in range(5):
        work()
    found: list[float] = []
    end = time.perf_counter() + 1
    while len(found) < 30 or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    print(json.dumps({"version": version, "us": statistics.median(found) * 1e6}))


if __name__ == "__main__":
    main()

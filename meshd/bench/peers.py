"""The same networks in the runtimes people know, beside ours, in one run. Peers are never needed: what is missing is left out.

Theirs are pruned in what they know: without structure, or (LiteRT) in blocks of 1 x 4; ours in blocks of 4 outputs (16 in
matrices), and a row also says what ours takes without structure.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from meshd.bench import networks, peer_program, tflite
from meshd.errors import MisuseError

TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Work:
    """A network in ours and in others' forms."""

    name: str
    ours: Callable[[int], networks.Chain]
    """By the number of outputs that share a pattern."""
    block: int = 0
    """That number; 0 where nothing is left out."""
    files: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    """By format (`onnx`, `tflite`, `lce`): the file's bytes."""


def works() -> Iterator[Work]:
    """What is compared."""
    for zeros in (0.8, 0.9, 0.95):
        yield Work(
            f"cnn, {zeros:.0%} zeros",
            lambda block, z=zeros: networks.cnn(z, block),  # type: ignore[misc]
            4,
            {"onnx": lambda z=zeros: _cnn_onnx(z)},  # type: ignore[misc]
        )
    yield Work(
        "mlp 3x1024, 90% zeros",
        lambda block: networks.mlp(0.9, block),
        16,
        {"onnx": lambda: _mlp_onnx(0.9), "tflite": lambda: _mlp_tflite(0.9)},
    )
    yield Work("binary conv 128@28", lambda _: networks.binary_convolution(), files={"lce": _binary_lce})
    yield Work("int8 conv 64>128@56", lambda _: networks.int8_convolution(), files={"onnx": _int8_conv_onnx})
    yield Work("int8 product 96x1024", lambda _: networks.int8_product(), files={"onnx": _int8_product_onnx})


def compare(pythons: list[str]) -> list[dict[str, Any]]:
    """A row for each work and each peer found in any of these interpreters.

    Raises
    ------
    MisuseError
        If a package with which the peers' models are written, onnx or flatbuffers, is missing.
    """
    try:
        import flatbuffers  # type: ignore[import-untyped]  # noqa: F401
        import onnx  # noqa: F401
    except ImportError:
        raise MisuseError(
            "--peers writes the peers' models: pip install 'meshd[onnx]' flatbuffers (onnxruntime brings the latter)"
        ) from None
    rows, found = [], list(_found(pythons))
    with tempfile.TemporaryDirectory() as folder:
        for work in works():
            reading = [(peer, python) for peer, python in found if peer_program.READS.get(peer, "onnx") in work.files]
            if not reading:
                continue
            blocks = (work.block, 1) if work.block else (0,)
            # The same way of timing for both: run by run.
            ours = [peer_program.median_us(work.ours(block).run) for block in blocks]
            for peer, python in reading:
                kind = peer_program.READS.get(peer, "onnx")
                path = Path(folder) / f"model.{kind}"
                path.write_bytes(work.files[kind]())
                words = [python, peer_program.__file__, peer, str(path)]
                done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
                if done.returncode:
                    continue
                # Some print a banner first.
                theirs = json.loads(done.stdout.splitlines()[-1])
                row = {
                    "name": peer, "version": theirs["version"], "work": work.name, "us": round(theirs["us"], 1),
                    "ours_us": round(ours[0], 1), "ratio": round(theirs["us"] / ours[0], 2),
                }  # fmt: skip
                rows.append(row | ({"ours_unstructured_us": round(ours[1], 1)} if work.block else {}))
    return rows


def _found(pythons: list[str]) -> Iterator[tuple[str, str]]:
    """Each peer, with the first interpreter that has it."""
    for peer in peer_program.PEERS:
        probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({peer!r}) is None)"
        for python in pythons:
            if subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0:
                yield peer, python
                break


def _model(nodes: list[Any], weights: dict[str, Any], shape: list[int], octets: bool = False) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.UINT8 if octets else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "work",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made: Any = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString())


def _cnn_onnx(zeros: float) -> bytes:
    from onnx import helper

    first, second, last = networks.cnn_weights(zeros, 1)
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["d"], kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["d"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
    ]
    return _model(nodes, {"a": first, "b": second, "w": last}, [1, 64, 56, 56])


def _mlp_onnx(zeros: float) -> bytes:
    from onnx import helper

    rng, nodes, weights = np.random.default_rng(2), [], {}
    for k, (x, y) in enumerate((("x", "h0"), ("h1", "h2"), ("h3", "h4"))):
        weights[f"w{k}"] = networks.pruned(rng, (1024, 1024), zeros, 1)
        nodes.append(helper.make_node("Gemm", [x, f"w{k}"], [y], transB=1))
        nodes.append(helper.make_node("Relu", [y], ["y" if k == 2 else f"h{2 * k + 1}"]))
    return _model(nodes, weights, [1, 1024])


def _mlp_tflite(zeros: float) -> bytes:
    rng = np.random.default_rng(2)
    return tflite.perceptron([networks.pruned(rng, (1024, 1024), zeros, tflite.BLOCK).T.copy() for _ in range(3)])


def _binary_lce() -> bytes:
    return tflite.binary_convolution(np.random.default_rng(3).standard_normal((128, 128, 3, 3)).astype(np.float32), 28)


def _int8_conv_onnx() -> bytes:
    from onnx import helper

    weight, names = networks.int8_weights(True), ["x", "s", "z", "w", "v", "q", "t", "z"]
    node = helper.make_node("QLinearConv", names, ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return _model([node], _int8_constants(weight, len(weight)), [1, 64, 56, 56], octets=True)


def _int8_product_onnx() -> bytes:
    from onnx import helper

    node = helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "v", "q", "t", "z"], ["y"])
    return _model([node], _int8_constants(networks.int8_weights(False).T.copy(), 1024), [96, 1024], octets=True)


def _int8_constants(weight: Any, outputs: int) -> dict[str, Any]:
    scale = np.float32(networks.INT8_SCALE)
    return {
        "s": np.array(scale), "z": np.array(0, np.uint8), "w": weight, "v": np.full(outputs, scale, np.float32),
        "q": np.zeros(outputs, np.int8), "t": np.array(1.0, np.float32),
    }  # fmt: skip

"""The same networks in the runtimes people know, beside ours, in one run. Peers are never needed: what is missing is left out.

Theirs are pruned without structure (they have no blocks), ours in blocks of 4 (16 in matrices); a row also says what ours
takes without structure.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshd.bench import networks, peer_program
from meshd.bench.limits import median_s
from meshd.errors import MisuseError

TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Work:
    """A network in both forms. `theirs` writes the ONNX file."""

    name: str
    ours: Callable[[int], networks.Chain]
    """By the number of outputs that share a pattern."""
    block: int
    theirs: Callable[[], Any]


def works() -> Iterator[Work]:
    """What is compared."""
    for zeros in (0.8, 0.9, 0.95):
        yield Work(f"cnn, {zeros:.0%} zeros", lambda b, z=zeros: networks.cnn(z, b), 4, lambda z=zeros: _cnn_onnx(z))  # type: ignore[misc]
    yield Work("mlp 3x1024, 90% zeros", lambda b: networks.mlp(0.9, b), 16, lambda: _mlp_onnx(0.9))


def compare(pythons: list[str]) -> list[dict[str, Any]]:
    """A row for each work and each peer found in any of these interpreters.

    Raises
    ------
    MisuseError
        If the onnx package, with which the peers' models are written, is missing.
    """
    try:
        import onnx
    except ImportError:
        raise MisuseError("--peers writes the peers' models with the onnx package: pip install 'meshd[onnx]'") from None
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for work in works():
            path = str(Path(folder) / "model.onnx")
            onnx.save(work.theirs(), path)
            ours, plain = (median_s(work.ours(block).run, least_s=0.02) * 1e6 for block in (work.block, 1))
            for peer, python in _found(pythons):
                words = [python, peer_program.__file__, peer, path]
                done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
                if done.returncode:
                    continue
                # Some print a banner first.
                theirs = json.loads(done.stdout.splitlines()[-1])
                rows.append(
                    {
                        "name": peer, "version": theirs["version"], "work": work.name, "us": round(theirs["us"], 1),
                        "ours_us": round(ours, 1), "ours_unstructured_us": round(plain, 1),
                        "ratio": round(theirs["us"] / ours, 2),
                    }
                )  # fmt: skip
    return rows


def _found(pythons: list[str]) -> Iterator[tuple[str, str]]:
    for python in pythons:
        for peer in peer_program.PEERS:
            probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({peer!r}) is None)"
            if subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0:
                yield peer, python


def _model(nodes: list[Any], weights: dict[str, Any], shape: list[int]) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "work",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _cnn_onnx(zeros: float) -> Any:
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


def _mlp_onnx(zeros: float) -> Any:
    import numpy as np
    from onnx import helper

    rng, nodes, weights = np.random.default_rng(2), [], {}
    for k, (x, y) in enumerate((("x", "h0"), ("h1", "h2"), ("h3", "h4"))):
        weights[f"w{k}"] = networks.pruned(rng, (1024, 1024), zeros, 1)
        nodes.append(helper.make_node("Gemm", [x, f"w{k}"], [y], transB=1))
        nodes.append(helper.make_node("Relu", [y], ["y" if k == 2 else f"h{2 * k + 1}"]))
    return _model(nodes, weights, [1, 1024])

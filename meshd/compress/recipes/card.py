"""A model's card: what the exported file is, and what it was measured to do.

Rule 1: every figure is read from the file or counted by running it; none is typed in.
Rule 2: ONNX Runtime counts on the full test set. The standard's own reference evaluator runs beside it on the sample (it
takes a hundred times as long), and both counts are kept.

Torch-free, so that tests can hold a shipped card against its file. Source: Mitchell et al., "Model Cards", 2019.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

BLOCK = 4
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def write_sample(path: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Write a sample of the test set: arrays ``images`` and ``labels``, compressed."""
    with path.open("wb") as file:
        np.savez_compressed(file, images=images, labels=labels)


def write(
    path: Path, about: dict[str, Any], inputs: NDArray[np.float32], labels: NDArray[np.integer[Any]], sample_count: int
) -> dict[str, Any]:
    """Measure the ONNX file at `path` and write its card beside it, as ``.json``.

    Parameters
    ----------
    path : path of the ``.onnx`` file
    about : dict
        What cannot be measured: title, licences, data, classes, recipe.
    inputs : float32 array, shape (count, ...)
        The full test set, as the file's input takes it.
    labels : integer array, shape (count,)
    sample_count : int
        The sample is the first `sample_count` of the test set.

    Returns
    -------
    dict : the card, as written
    """
    raw = path.read_bytes()
    layers = describe_layers(onnx.load_model_from_string(raw))
    runs = runtimes(path)
    right = answers(runs["onnxruntime"], inputs) == labels
    sample = {name: answers(run, inputs[:sample_count]) == labels[:sample_count] for name, run in runs.items()}
    card = {
        "name": path.stem,
        **about,
        "accuracy": {
            "test": _counts({"onnxruntime": right}),
            "sample": _counts(sample),
        },
        "layers": layers,
        "parameters": sum(layer["parameters"] for layer in layers),
        "file": {"name": path.name, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()},
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    for part, found in card["accuracy"].items():
        print(f"{part}: {found['correct']} of {found['total']} right ({found['fraction']:.2%}); {found['runtimes']}")
    print(f"{path.name}: {len(raw):,} bytes, {card['parameters']:,} parameters")
    return card


def runtimes(path: Path) -> dict[str, Run]:
    """Return what the file is run by: ONNX Runtime, and the reference evaluator of the ONNX standard if it can."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    runs: dict[str, Run] = {"onnxruntime": lambda x: session.run(None, {name: x})[0]}
    try:
        reference = ReferenceEvaluator(str(path))
    except RuntimeError:
        return runs  # It has no DequantizeLinear of this opset.
    return {**runs, "reference": lambda x: reference.run(None, {name: x})[0]}


def answers(run: Run, inputs: NDArray[np.float32], batch: int = 250) -> NDArray[np.int64]:
    """Return the top answer for each of `inputs`, float32, shape (count, ...)."""
    return np.concatenate([run(inputs[i : i + batch]).argmax(axis=1) for i in range(0, len(inputs), batch)])


def describe_layers(model: onnx.ModelProto) -> list[dict[str, Any]]:
    """Return one row for each layer with weights, in the graph's order, read from the graph alone.

    A layer is ``binary`` if all its weights are +-1 and a Sign feeds it (through a Pad, perhaps), ``sparse`` if more than
    half of its weights are zero, else ``dense``; ``int8`` if they are behind a DequantizeLinear. ``block`` is the number of
    output channels that share their positions.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    rows = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        names = [
            makers[n].input[0] if n in makers else n for n in node.input[1:]
        ]  # Behind a DequantizeLinear, or bare.
        weight = constants[names[0]]
        maker = makers.get(node.input[0])
        if maker is not None and maker.op_type == "Pad":
            maker = makers.get(maker.input[0])
        nonzero = int(np.count_nonzero(weight))
        signs = bool(np.all(np.abs(weight) == 1)) and maker is not None and maker.op_type == "Sign"
        kind = (
            "int8"
            if weight.dtype == np.int8
            else "binary"
            if signs
            else "sparse"
            if 2 * nonzero < weight.size
            else "dense"
        )
        rows.append(
            {
                "name": node.name,
                "op": node.op_type,
                "kind": kind,
                "weight_shape": list(weight.shape),
                "parameters": sum(constants[name].size for name in names),
                "nonzero": nonzero,
                "sparsity": round(1 - nonzero / weight.size, 4),
                "block": BLOCK if kind == "sparse" and shares_positions(weight, BLOCK) else 1,
            }
        )
    return rows


def shares_positions(weight: NDArray[np.float32], block: int) -> bool:
    """Tell whether each `block` neighbouring outputs, the first axis of `weight`, are zero at the same positions."""
    if weight.shape[0] % block:
        return False
    kept = (weight != 0).reshape(weight.shape[0] // block, block, -1)
    return bool(np.all(kept == kept[:, :1]))


def _counts(right: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
    correct = {name: int(hits.sum()) for name, hits in right.items()}
    counted, total = correct["onnxruntime"], len(right["onnxruntime"])
    return {"correct": counted, "total": total, "fraction": counted / total, "runtimes": correct}

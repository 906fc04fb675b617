"""ONNX's own node cases, run through import and engine: an adapter, and the list of what is out of reach and why.

`python -m tests.model.conformance` prints the count and every failure.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from meshd.engine.segment import compile_segment
from meshd.errors import InvalidError
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_bytes
from meshd.model.onnx_import.load import OPSET_MIN
from meshd.model.onnx_import.rows import KNOWN

Array = NDArray[Any]
DTYPES = {"float32", "uint8", "int8", "int32", "int64", "bool"}

EXCEPTIONS: dict[str, str] = {
    r"batchnorm_.*_training_mode": "training",
    r"training_dropout": "training",
    r"constant$": "a model without inputs",
    r"constantofshape_": "a shape that is an input",
    r"range_": "a size that is an input",
    r"(blackman|hamming|hann)window": "a size that is an input",
    r"affine_grid_": "a size that is an input",
    r"if$": "a condition that is an input",
    r"maxpool_with_argmax": "the places of the maxima",
    r"(de)?quantizelinear_blocked": "scales by blocks",
    r"reduce_.*empty_set": "dimensions of 0 in an input: read as free",
    r"reshape_allowzero": "dimensions of 0 in an input: read as free",
    r"split_zero_size_splits": "dimensions of 0 in an input: read as free",
    r"resize_tf_crop_and_resize": "crops",
}
"""Case (a regular expression after `test_`) → why it is refused at import, on purpose."""


def exception(name: str) -> str:
    """Why a listed case is refused; empty where it is not."""
    return next((why for words, why in EXCEPTIONS.items() if re.match(f"test_{words}", name)), "")


@cache
def cases() -> dict[str, Any]:
    """All node cases of the installed onnx, by name."""
    np.random.seed(0)
    return {case.name: case for case in collect_testcases(None)}


def arrays_of(case: Any) -> tuple[list[Array], list[Array]] | None:
    """Inputs and outputs of a case's data set; None where something is no tensor."""
    inputs, outputs = case.data_sets[0]
    if not all(isinstance(a, (np.ndarray, np.generic)) for a in (*inputs, *outputs)):
        return None
    return [np.asarray(a) for a in inputs], [np.asarray(a) for a in outputs]


def _operators(graph: Any) -> set[str]:
    found = {n.op_type for n in graph.node}
    for n in graph.node:
        for a in n.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                found |= _operators(a.g)
    return found


def is_listed(case: Any) -> bool:
    """Whether all operators of the case are known and all its tensors of the listed element types."""
    model = case.model
    versions = {o.domain: o.version for o in model.opset_import}
    if set(versions) - {""} or versions.get("", 0) < OPSET_MIN or model.functions:
        return False
    held = arrays_of(case)
    if held is None or any(a.dtype.name not in DTYPES for a in (*held[0], *held[1])):
        return False
    kinds = {i.type.WhichOneof("value") for i in (*model.graph.input, *model.graph.output)}
    return kinds == {"tensor_type"} and _operators(model.graph) <= KNOWN


def run(case: Any) -> list[Array]:
    """Import and run a case; inputs after the first become constants where the import asks for it. Raises InvalidError."""
    held = arrays_of(case)
    assert held is not None
    try:
        return _run(case.model, held[0], 99)
    except InvalidError:
        if len(held[0]) < 2:
            raise
    return _run(case.model, held[0], 1)


def _run(model: Any, inputs: list[Array], free: int) -> list[Array]:
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    names = [i.name for i in bound.graph.input]
    del bound.graph.input[free:]
    bound.graph.initializer.extend(
        numpy_helper.from_array(a, n) for n, a in list(zip(names, inputs, strict=True))[free:]
    )
    for info, array in zip(bound.graph.input, inputs, strict=False):
        info.type.tensor_type.shape.Clear()
        info.type.tensor_type.shape.SetInParent()
        for d in array.shape:
            info.type.tensor_type.shape.dim.add(dim_value=d)
    graph, arrays = import_bytes(bound.SerializeToString(), "case")
    if not graph.inputs:
        raise InvalidError("nothing is left to run")
    packed = bundle.pack(graph, arrays)
    graph = packed.graph
    segment = compile_segment(graph, 0, len(cuts.layers(graph)), packed.blobs.__getitem__)
    given = dict(zip(names, inputs, strict=True))
    return segment.run([np.ascontiguousarray(given[p.name]).reshape(given[p.name].shape) for p in segment.inputs])


def compare(case: Any, made: list[Array]) -> str:
    """Empty where the outputs are those of the case within its tolerance, else what differs."""
    held = arrays_of(case)
    assert held is not None
    for ours, theirs in zip(made, held[1], strict=True):
        if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
            return f"{ours.dtype} {ours.shape} where {theirs.dtype} {theirs.shape} is right"
        if theirs.dtype.kind == "f":
            if not np.allclose(ours, theirs, rtol=max(case.rtol, 1e-3), atol=max(case.atol, 1e-7), equal_nan=True):
                return f"differs by {np.nanmax(np.abs(ours.astype(np.float64) - theirs))}"
        elif not np.array_equal(ours, theirs):
            return f"{int((ours != theirs).sum())} of {theirs.size} elements differ"
    return ""


def outcomes(names: list[str]) -> Iterator[tuple[str, str, str]]:
    """(case, `passed` / `refused` / `wrong`, what is said)."""
    for name in names:
        case = cases()[name]
        try:
            said = compare(case, run(case))
        except InvalidError as error:
            yield name, "refused", str(error)
        else:
            yield name, "wrong" if said else "passed", said


def main() -> int:
    np.seterr(all="ignore")
    listed = [n for n, c in cases().items() if is_listed(c)]
    total: Counter[str] = Counter()
    for name, outcome, said in outcomes(listed):
        total[outcome] += 1
        if outcome != "passed":
            print(f"{outcome:8} {name}: {said.splitlines()[-1][:220]}", flush=True)
    print(f"{dict(total)} of {len(listed)} listed, {len(cases())} cases in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The import from end to end: inputs and their free dimensions, the walk, the passes, the checked graph."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.config import NAME_CHARS_MAX
from meshd.errors import InvalidError, MisuseError
from meshd.model.check import check_graph
from meshd.model.graph import Graph, Operation, Port, TensorType, Weight
from meshd.model.onnx_import import load
from meshd.model.onnx_import.node import Builder, Value, constant
from meshd.model.onnx_import.passes import simplify
from meshd.model.onnx_import.quantised import quantise
from meshd.model.onnx_import.refusal import UnsupportedModelError
from meshd.model.onnx_import.walk import Walk
from meshd.model.structure import structure_of

Arrays = dict[str, NDArray[Any]]
BATCH = "the batch"


def import_model(path: str | Path, fixed_dims: Mapping[str, int] | None = None) -> tuple[Graph, Arrays]:
    """Read an ONNX file.

    Parameters
    ----------
    path : the file; external data must lie in its folder
    fixed_dims : sizes of free dimensions by name (`T`), or by input and axis where they have none (`audio.1`); a whole-number
        input of one element may be fixed too, by its name

    Returns
    -------
    The graph, and its weights by name, C order.

    Raises
    ------
    UnsupportedModelError
        Naming every node that meshd does not run.
    InvalidError
        If the file is no sound model, or a free dimension is not fixed.
    MisuseError
        If the `onnx` package is missing.
    """
    _require_onnx()
    path = Path(path)
    return import_bytes(load.read(path), path.stem, fixed_dims, path.parent)


def import_bytes(
    raw: bytes, name: str, fixed_dims: Mapping[str, int] | None = None, folder: Path | None = None
) -> tuple[Graph, Arrays]:
    """As `import_model`, of bytes in memory."""
    _require_onnx()
    model = load.parse(raw)
    version = load.opset(model)
    fixed = dict(fixed_dims or {})
    weights = {t.name: load.array(t, folder) for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    shapes = {i.name: _input_type(i, fixed) for i in inputs if i.name not in fixed}
    batched, free = _batch(shapes)
    source = Source(model, version, weights, shapes, fixed)
    walk = _walk(source, 1)
    outputs = [o.name for o in model.graph.output]
    if free and not _scales(source, walk):
        raise InvalidError(
            "the model has a free batch but mixes its items, or its outputs do not lead with it; "
            f"fix it: {', '.join(sorted(f'{n}=1' for n in free))}"
        )
    found = {o: walk.values[o] for o in outputs}
    batched = batched and all(v is not None and v.shape[:1] == (1,) for v in found.values())
    return _finish(name, walk.builder, shapes, found, batched)


def _require_onnx() -> None:
    try:
        import onnx
        import onnx.reference  # noqa: F401
    except ImportError:
        raise MisuseError(
            "reading ONNX needs the onnx package, on this machine only: pip install 'meshd[onnx]'"
        ) from None


Shape = tuple[int | str | None, ...]


def _input_type(info: Any, fixed: Mapping[str, int]) -> tuple[str, Shape]:
    """Element type and shape; a free dimension is its name. Only a leading one may stay free."""
    import onnx

    t = info.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(t.elem_type).name
        dtype = TensorType(dtype, ()).dtype if dtype in load.PLAIN else ""
    except (KeyError, ValueError, TypeError):
        dtype = ""
    if not dtype:
        raise InvalidError(f"input {info.name!r} is no tensor of numbers meshd knows")
    shape: list[int | str | None] = []
    for axis, d in enumerate(t.shape.dim):
        label = d.dim_param or f"{info.name}.{axis}"
        if d.HasField("dim_value") and d.dim_value > 0:
            shape.append(int(d.dim_value))
        else:
            own = fixed.get(f"{info.name}.{axis}", fixed.get(label))
            if own is not None and own < 1:
                raise InvalidError(f"dimension {label} is fixed to {own}: it must be positive")
            shape.append(own if own is not None else label)
    return dtype, tuple(shape)


def _batch(shapes: Mapping[str, tuple[str, Shape]]) -> tuple[bool, set[str]]:
    """Whether items can be side by side, and the names of a batch that is free in the model. Refuses other free dimensions."""
    leading = {shape[0] if shape else None for _, shape in shapes.values()}
    together = bool(shapes) and None not in leading and all(isinstance(d, str) or d == 1 for d in leading)
    free = {d for d in leading if isinstance(d, str)} if together else set()
    other = [
        f"{name!r} axis {axis} is {d!r}"
        for name, (_, shape) in shapes.items()
        for axis, d in enumerate(shape)
        if isinstance(d, str) and not (axis == 0 and together) and d not in free
    ]
    if other:
        raise InvalidError(f"free dimensions must be fixed (--dim NAME=SIZE): {'; '.join(other)}")
    return together, free


@dataclass(frozen=True, slots=True)
class Source:
    """A model as read: its weights, the types of its inputs, and what was fixed."""

    model: Any
    opset: int
    weights: Mapping[str, Any]
    shapes: Mapping[str, tuple[str, Shape]]
    fixed: Mapping[str, int]


def _walk(source: Source, batch: int) -> Walk:
    """Walk the nodes with a free batch settled to `batch`."""
    model, fixed = source.model, source.fixed
    builder = Builder()
    values: dict[str, Value | None] = {}
    for name, (dtype, shape) in source.shapes.items():
        item = tuple(batch if isinstance(d, str) else int(d or 0) for d in shape)
        values[name] = Value(builder.name(name), TensorType(dtype, item))
        builder.types[name] = TensorType(dtype, item)
    for info in model.graph.input:
        if info.name in fixed and info.name not in source.weights:
            dims = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
            values[info.name] = constant(builder.name(info.name), np.full(dims, fixed[info.name], np.int64))
    for name, array in source.weights.items():
        values[name] = constant(builder.name(name), array)
    walk = Walk(source.opset, builder, values)
    walk.run(model.graph.node)
    if walk.refusals:
        raise UnsupportedModelError(walk.refusals)
    for output in model.graph.output:
        if walk.values.get(output.name) is None:
            raise InvalidError(f"nothing writes the output {output.name!r}")
    return walk


def _scales(source: Source, one: Walk) -> bool:
    """Whether a batch of two is the same work twice: same operations, outputs twice as long, nothing folded over the batch."""
    try:
        two = _walk(source, 2)
    except InvalidError:
        return False
    if [o.op for o in one.builder.operations] != [o.op for o in two.builder.operations]:
        return False
    for o in (output.name for output in source.model.graph.output):
        a, b = one.values[o], two.values[o]
        if a is None or b is None or a.constant is not None or b.shape != (2, *a.shape[1:]) or a.shape[:1] != (1,):
            return False
    return not any(_mixes(a, one, b, two) for a, b in zip(one.builder.operations, two.builder.operations, strict=True))


_FOLDING = frozenset(
    {"Softmax", "LogSoftmax", "Hardmax", "CumSum", "ArgMax", "ArgMin", "LayerNormalization", "LpNormalization"}
)


def _mixes(a: Operation, one: Walk, b: Operation, two: Walk) -> bool:
    """Whether the operation folds an axis that grows with the batch."""
    if a.op not in _FOLDING and not a.op.startswith("Reduce"):
        return False
    x, y = one.builder.types[a.inputs[0]].item, two.builder.types[b.inputs[0]].item
    growing = {i for i, (m, n) in enumerate(zip(x, y, strict=True)) if m != n}
    axes = a.attributes.get("axes", (a.attributes.get("axis", 0),))
    folded = set(range(int(a.attributes["axis"]), len(x))) if a.op == "LayerNormalization" else set(axes)  # type: ignore[arg-type]
    return bool(growing & folded)


def _finish(
    name: str,
    builder: Builder,
    shapes: Mapping[str, tuple[str, Shape]],
    outputs: Mapping[str, Value | None],
    batched: bool,
) -> tuple[Graph, Arrays]:
    names = _name_outputs(builder, shapes, outputs)
    simplify(builder, set(names))
    quantise(builder, set(names))
    _finite(builder)

    def settled(t: TensorType) -> TensorType:
        return TensorType(t.dtype, (None, *t.shape[1:])) if batched and t.shape[:1] == (1,) else t

    used = {n for o in builder.operations for n in o.inputs if n in builder.arrays}
    arrays = {n: builder.arrays[n] for n in sorted(used)}
    written = [n for o in builder.operations for n in o.outputs if n]
    tensors = {n: settled(builder.types[n]) for n in (*shapes, *written)}
    weights = {n: Weight(n, TensorType(a.dtype.name, a.shape), "", 0) for n, a in arrays.items()}
    for key, (kind, zeros) in structure_of(builder.operations, arrays).items():
        weights[key] = replace(weights[key], structure=kind, zeros=zeros)
    graph = Graph(
        name=name[:NAME_CHARS_MAX] or "model",
        inputs=tuple(Port(n, tensors[n]) for n in shapes),
        outputs=tuple(Port(n, tensors[n]) for n in names),
        operations=tuple(builder.operations),
        weights=weights,
        tensors=tensors,
    )
    check_graph(graph)
    return graph, arrays


def _name_outputs(
    builder: Builder, shapes: Mapping[str, tuple[str, Shape]], outputs: Mapping[str, Value | None]
) -> list[str]:
    """Give each output its name in the model: an input, a constant, or a tensor that is two outputs is copied first."""
    final: dict[str, str] = {}
    for wish, found in outputs.items():
        assert found is not None
        value = found
        if value.constant is not None or value.name in shapes or value.name in final:
            value = builder.emit("Reshape", [value], {"shape": value.shape}, wish=wish)
        final[value.name] = wish
    taken = {wish: builder.name(wish) for name, wish in final.items() if wish in builder.types and wish != name}
    rename = {**taken, **final}
    builder.operations = [
        replace(
            o,
            inputs=tuple(rename.get(n, n) for n in o.inputs),
            outputs=tuple(rename.get(n, n) for n in o.outputs),
        )
        for o in builder.operations
    ]
    builder.types = {rename.get(n, n): t for n, t in builder.types.items()}
    builder.arrays = {rename.get(n, n): a for n, a in builder.arrays.items()}
    builder.steps = {rename.get(n, n): s for n, s in builder.steps.items()}
    return list(final.values())


def _finite(builder: Builder) -> None:
    """Weights of what multiplies and adds must be finite; a mask of infinities elsewhere is ordinary."""
    for o in builder.operations:
        if o.op in {"Conv", "ConvTranspose", "Gemm", "LSTM", "GRU", "RNN", "Affine"}:
            for n in o.inputs:
                if n in builder.arrays and not np.isfinite(builder.arrays[n]).all():
                    raise InvalidError(f"weight {n} of {o.name} holds NaN or infinity: train or export the model again")

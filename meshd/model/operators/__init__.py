"""The operators of meshd's graph: what each takes, what it makes, what it costs.

Nothing a topology claims is believed: a device infers every shape anew from this table, because kernels check no bounds.

Rule 1: semantics are ONNX's newest opset for operators of the same name; defaults are settled, so every attribute is there.
Rule 2: what ONNX passes as a constant input (axes, shapes, pads) is an attribute here.
Rule 3: shapes are those of one item: the batch counts as 1 (see `graph`).

Adding an operator: files to touch
----------------------------------
1. here, a row in the file of its family: arity, attributes, `infer` (types out of types in), `macs` if it multiplies;
2. `meshd/model/onnx_import/rows_*.py`: a function from the ONNX node to operations of this table (nothing, if it is a
   combination of operators that are here already);
3. `meshd/engine/operators/*.py`: a function from the operation to a step that computes it;
4. `tests/engine/test_operators.py`: a row with a shape or two, compared with ONNX's own reference.
"""

from meshd.model.operators import (
    arithmetic,
    convolution,
    movement,
    pointwise,
    pooling,
    product,
    quantized,
    recurrent,
    reduction,
)
from meshd.model.operators.spec import Attributes, Operator, Types

OPERATORS: dict[str, Operator] = {
    **convolution.ROWS,
    **product.ROWS,
    **pooling.ROWS,
    **pointwise.ROWS,
    **arithmetic.ROWS,
    **reduction.ROWS,
    **movement.ROWS,
    **recurrent.ROWS,
    **quantized.ROWS,
}

__all__ = ["OPERATORS", "Attributes", "Operator", "Types"]

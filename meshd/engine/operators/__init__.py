"""How each operator is computed where no compiled kernel serves: NumPy, written once, the slow truth of the engine.

A row takes a `Call` and returns a `Bind`: given arrays of one arena, what computes. See `meshd.model.operators` for what each
operator means, and for the list of files to touch when adding one. What the kernels serve is chosen in `engine.lower`.
"""

from meshd.engine.operators import arithmetic, movement, pointwise, quantized, recurrent, reduction, window
from meshd.engine.operators.call import Bind, Call, Row

ROWS: dict[str, Row] = {
    **pointwise.ROWS,
    **arithmetic.ROWS,
    **reduction.ROWS,
    **movement.ROWS,
    **window.ROWS,
    **recurrent.ROWS,
    **quantized.ROWS,
}

__all__ = ["ROWS", "Bind", "Call", "Row"]

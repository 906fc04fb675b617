"""The table: ONNX operator → the function that translates a node of it. Those missing are refused by name."""

from meshd.model.onnx_import import rows_compute, rows_fold, rows_movement, rows_pointwise
from meshd.model.onnx_import.node import Row

ROWS: dict[str, Row] = {**rows_compute.ROWS, **rows_pointwise.ROWS, **rows_movement.ROWS, **rows_fold.ROWS}

KNOWN = frozenset({*ROWS, "Constant", "ConstantOfShape", "Shape", "Size", "If", "Range", "EyeLike"})
"""Operators that are translated, or folded where what they need is constant."""

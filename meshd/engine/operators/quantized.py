"""Integers with a scale. Accumulators are exact: products of bytes sum in float64 by BLAS (below 2**53), then become int32."""

from functools import partial
from typing import Any

import numpy as np

from meshd.engine.operators.call import Array, Bind, Call, Row, computed
from meshd.engine.operators.window import convolve
from meshd.kernels import registry


def _column(scale: Any, rank: int, axis: int) -> Any:
    """One value for each place on `axis`, shaped to broadcast."""
    if scale is None:
        return 0
    return scale.reshape(()) if scale.size == 1 else scale.reshape(-1, *(1,) * (rank - 1 - axis))


def saturate(x: Array, dtype: np.dtype[Any]) -> Array:
    """Round half to even, and hold within the type."""
    info = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(x), info.min, info.max).astype(dtype))


def _fast(c: Call, kind: str) -> tuple[np.float32, np.float32] | None:
    """(scale, zero point) where one of each, constant, serve all, and a compiled pass does the rest."""
    if kind not in {"uint8", "int8"} or not registry.compiled() or any(k is None for k in c.constants[1:]):
        return None
    scale, zero = c.constants[1], c.constants[2] if len(c.constants) > 2 else np.zeros(1, kind)
    if scale is None or zero is None or scale.size != 1 or zero.size != 1 or scale.dtype != np.float32:
        return None
    return np.float32(scale.reshape(-1)[0]), np.float32(zero.reshape(-1)[0])


def _quantize(c: Call) -> Bind:
    axis, rank, dtype = c.attributes["axis"], len(c.shape(0)), c.dtype
    pair, source = _fast(c, dtype.name), c.inputs[0]
    if pair is not None and source is not None and source.dtype == "float32":
        from meshd.engine.activations import quantize

        info, do = np.iinfo(dtype), quantize[dtype.name]()
        edges = np.float32(info.min), np.float32(info.max)
        return lambda ins, outs: partial(do, ins[0].reshape(-1), outs[0].reshape(-1), *pair, *edges)

    def function(x: Array, scale: Array, zero: Array | None = None) -> Any:
        # Division in float32 as the standard has it, the zero point added after rounding.
        steps = np.rint(x / _column(scale, rank, axis)).astype(np.float64)
        return saturate(steps + np.asarray(_column(zero, rank, axis), np.float64), dtype)

    return computed(function)(c)


def _dequantize(c: Call) -> Bind:
    axis, rank = c.attributes["axis"], len(c.shape(0))
    source = c.inputs[0]
    pair = _fast(c, source.dtype if source is not None and c.constants[0] is None else "")
    if pair is not None and source is not None:
        from meshd.engine.activations import dequantize

        do = dequantize[source.dtype]()
        return lambda ins, outs: partial(do, ins[0].reshape(-1), outs[0].reshape(-1), *pair)

    def function(x: Array, scale: Array, zero: Array | None = None) -> Any:
        centred = x.astype(np.int32) - np.asarray(_column(zero, rank, axis), np.int32)
        return centred.astype(np.float32) * _column(scale, rank, axis)

    return computed(function)(c)


def _dynamic(_: Call) -> Bind:
    def bind(ins: Any, outs: Any) -> Any:
        def run() -> None:
            x = ins[0]
            low, high = min(x.min(initial=0), np.float32(0)), max(x.max(initial=0), np.float32(0))
            scale = np.float32((high - low) / np.float32(255))
            safe = scale if scale > 0 else np.float32(1)
            zero = np.clip(np.rint(-low / safe), 0, 255)
            for out, value in zip(outs, (np.clip(np.rint(x / safe) + zero, 0, 255), scale, zero), strict=False):
                if out is not None:
                    out[...] = value

        return run

    return bind


def _centred(x: Array, zero: Array | None, along_rows: bool = False) -> Array:
    wide = x.astype(np.float64)
    if zero is None:
        return wide
    if zero.size == 1:
        return np.asarray(wide - zero.reshape(()).astype(np.float64))
    return np.asarray(wide - (zero.reshape(-1, 1) if along_rows else zero.reshape(-1)).astype(np.float64))


def _centred_weights(w: Array, zero: Array | None) -> Array:
    wide = w.astype(np.float64)
    return wide if zero is None else np.asarray(wide - _column(zero, w.ndim, 0))


def _conv_integer(c: Call) -> Bind:
    def function(x: Array, w: Array, zx: Array | None = None, zw: Array | None = None) -> Any:
        return convolve(_centred(x, zx), _centred_weights(w, zw), c.attributes)

    return computed(function)(c)


def _matmul_integer(c: Call) -> Bind:
    def function(a: Array, b: Array, za: Array | None = None, zb: Array | None = None) -> Any:
        return np.matmul(_centred(a, za, True), _centred(b, zb))

    return computed(function)(c)


def _qlinear_conv(c: Call) -> Bind:
    rank = len(c.outputs[0].item)

    def function(
        x: Array, sx: Array, zx: Array, w: Array, sw: Array, zw: Array, sy: Array, zy: Array, b: Any = None
    ) -> Any:
        total = convolve(_centred(x, zx), _centred_weights(w, zw), c.attributes)
        if b is not None:
            total = total + b.reshape(-1, *(1,) * (rank - 2))
        factor = (sx.reshape(()) * _column(sw, rank, 1)) / sy.reshape(())
        return saturate(total.astype(np.float32) * factor + zy.reshape(()).astype(np.float32), c.dtype)

    return computed(function)(c)


def _qlinear_matmul(c: Call) -> Bind:
    def function(a: Array, sa: Array, za: Array, b: Array, sb: Array, zb: Array, sy: Array, zy: Array) -> Any:
        total = np.matmul(_centred(a, za), _centred(b, zb))
        factor = (sa.reshape(()) * (sb.reshape(()) if sb.size == 1 else sb.reshape(-1))) / sy.reshape(())
        return saturate(total.astype(np.float32) * factor + zy.reshape(()).astype(np.float32), c.dtype)

    return computed(function)(c)


ROWS: dict[str, Row] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
}

"""LSTM, GRU and RNN, one step of time after another. The input's share of all steps is one product beforehand."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from meshd.engine.operators.call import Array, Bind, Call, Row

Step = Callable[..., tuple[Array, ...]]


def _sigmoid(x: Array) -> Array:
    half = x.dtype.type(0.5)
    return np.asarray(half * np.tanh(half * x) + half)


def _lstm(gates: Array, h: Array, c: Array, r: Array, rb: Array, peep: Any) -> tuple[Array, ...]:
    # ONNX's order of gates: input, output, forget, cell; of peepholes: input, output, forget.
    i, o, f, g = np.split(gates + np.matmul(h, r.T) + rb, 4, axis=-1)
    if peep is None:
        cell = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        return _sigmoid(o) * np.tanh(cell), cell
    pi, po, pf = np.split(peep, 3)
    cell = _sigmoid(f + pf * c) * c + _sigmoid(i + pi * c) * np.tanh(g)
    return _sigmoid(o + po * cell) * np.tanh(cell), cell


def _gru(gates: Array, h: Array, _: Array, r: Array, rb: Array, linear: Any) -> tuple[Array, ...]:
    # Update, reset, hidden.
    n = h.shape[-1]
    zr = _sigmoid(gates[..., : 2 * n] + np.matmul(h, r[: 2 * n].T) + rb[: 2 * n])
    z, reset = zr[..., :n], zr[..., n:]
    recur, bias = r[2 * n :].T, rb[2 * n :]
    inner = reset * (np.matmul(h, recur) + bias) if linear else np.matmul(reset * h, recur) + bias
    new = np.tanh(gates[..., 2 * n :] + inner)
    return (new.dtype.type(1) - z) * new + z * h, h


def _rnn(gates: Array, h: Array, _: Array, r: Array, rb: Array, __: Any) -> tuple[Array, ...]:
    return np.tanh(gates + np.matmul(h, r.T) + rb), h


def _row(step: Step, states: int) -> Row:
    def row(c: Call) -> Bind:
        direction = c.attributes["direction"]
        ways = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
        linear = bool(c.attributes["linear_before_reset"]) if c.op == "GRU" else None

        def bind(ins: Any, outs: Any) -> Any:
            given: list[Any] = [*ins, *[None] * (7 - len(ins))]
            x, w, r, b, h0, c0, peepholes = given
            time, batch, _ = x.shape
            hidden = r.shape[2]
            zero = np.zeros((len(ways), batch, hidden), x.dtype)
            bias = np.zeros((len(ways), 2 * w.shape[1]), x.dtype) if b is None else b

            def order(backwards: bool) -> Iterator[int]:
                return iter(range(time - 1, -1, -1) if backwards else range(time))

            def run() -> None:
                for d, backwards in enumerate(ways):
                    h, cell = (zero if s is None else s for s in (h0, c0))
                    h, cell = h[d], cell[d]
                    gates = np.matmul(x, w[d].T) + bias[d, : w.shape[1]]
                    extra = linear if peepholes is None else peepholes[d]
                    for t in order(backwards):
                        h, cell = step(gates[t], h, cell, r[d], bias[d, w.shape[1] :], extra)
                        if outs[0] is not None:
                            outs[0][t, d] = h
                    for out, state in zip(outs[1 : 1 + states], (h, cell), strict=False):
                        if out is not None:
                            out[d] = state

            return run

        return bind

    return row


ROWS: dict[str, Row] = {"LSTM": _row(_lstm, 2), "GRU": _row(_gru, 1), "RNN": _row(_rnn, 1)}

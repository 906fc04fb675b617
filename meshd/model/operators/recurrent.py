"""LSTM, GRU and RNN over a sequence, ONNX's weight layout, default activations.

`x [T, N, I]`, `w [D, G*H, I]`, `r [D, G*H, H]`, `b? [D, 2*G*H]`, `h0? [D, N, H]`, LSTM also `c0? [D, N, H]` and peepholes
`p? [D, 3*H]`;
outputs `y [T, D, N, H]`, `h [D, N, H]`, LSTM also `c`. D is 2 for `bidirectional`, else 1.
"""

from math import prod

from meshd.model.graph import TensorType
from meshd.model.operators.spec import FLOATS, Attributes, Operator, Types, dims, require, same_dtype, tensor

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _row(op: str, attributes: dict[str, str]) -> Operator:
    gates, states = GATES[op], 2 if op == "LSTM" else 1

    def infer(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
        require(a["direction"] in DIRECTIONS, f"direction {a['direction']!r}")
        ways, x, w, r = DIRECTIONS[a["direction"]], dims(ts[0]), dims(ts[1]), dims(ts[2])
        require(len(x) == len(w) == len(r) == 3, "x, w and r have three axes")
        hidden = r[2]
        require(
            w == (ways, gates * hidden, x[2]) and r == (ways, gates * hidden, hidden), f"weights {list(w)}, {list(r)}"
        )
        bias = ts[3] if len(ts) > 3 else None
        require(bias is None or dims(bias) == (ways, 2 * gates * hidden), "the bias has both halves of every gate")
        peepholes = ts[6] if len(ts) > 6 else None
        require(peepholes is None or dims(peepholes) == (ways, 3 * hidden), "peepholes are [directions, 3 hidden]")
        for state in ts[4:6]:
            require(state is None or dims(state) == (ways, x[1], hidden), "a state is [directions, batch, hidden]")
        kind = same_dtype(ts, FLOATS)
        state = tensor(kind, (ways, x[1], hidden))
        return (tensor(kind, (x[0], ways, x[1], hidden)), *[state] * states)

    def macs(ts: Types, a: Attributes, out: tuple[TensorType, ...]) -> int:
        x = dims(ts[0])
        return x[0] * x[1] * (prod(dims(ts[1])) + prod(dims(ts[2])))

    return Operator((3, 7 if op == "LSTM" else 5), infer, {"direction": "str", **attributes}, macs)


ROWS = {
    "LSTM": _row("LSTM", {}),
    "GRU": _row("GRU", {"linear_before_reset": "int"}),
    "RNN": _row("RNN", {}),
}

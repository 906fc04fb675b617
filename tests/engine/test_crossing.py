"""What crosses a cut comes back as it was, or is refused."""

import numpy as np
import pytest
from numpy.typing import NDArray

from meshd.engine.crossing import decode, encode
from meshd.errors import InvalidError
from meshd.model.graph import Port, TensorType


def _port(dtype: str, *shape: int | None) -> Port:
    return Port("t", TensorType(dtype, shape))


@pytest.mark.parametrize("n", [1, 7, 8, 9, 63, 65])
@pytest.mark.parametrize("batch", [1, 3])
def test_signs_cross_eight_to_a_byte(n: int, batch: int) -> None:
    x = np.random.default_rng(n).standard_normal((batch, n)).astype(np.float32)
    raw = encode(x, "sign_bits")
    assert len(raw) == batch * -(-n // 8)
    assert np.array_equal(decode(raw, "sign_bits", _port("float32", None, n), batch), np.where(x < 0, -1, 1))


def test_a_zero_crosses_as_plus_one() -> None:
    raw = encode(np.array([[0.0, -0.0, -1.0]], np.float32), "sign_bits")
    assert decode(raw, "sign_bits", _port("float32", None, 3), 1).tolist() == [[1, 1, -1]]


@pytest.mark.parametrize(
    "x",
    [
        np.array([[1.5, np.nan], [-0.0, np.inf]], np.float32),
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.array([[1, -2], [3, -4]], np.int8),
        np.array([[True, False]]),
        np.zeros((2, 0), np.float32),
    ],
)
def test_all_else_crosses_byte_by_byte(x: NDArray[np.generic]) -> None:
    encoding = {"float32": "float32", "int8": "int8"}.get(x.dtype.name, "raw")
    back = decode(bytes(encode(x, encoding)), encoding, _port(x.dtype.name, None, x.shape[1]), len(x))
    assert back.dtype == x.dtype
    assert back.tobytes() == x.tobytes()


@pytest.mark.parametrize(
    ("raw", "encoding", "port", "batch"),
    [
        (bytes(7), "float32", _port("float32", None, 2), 1),
        (bytes(8), "float32", _port("float32", None, 2), 2),
        (bytes(8), "float32", _port("float32", None, 2), 0),
        (bytes(8), "float32", _port("float32", None, 2), -1),
        (bytes(2), "sign_bits", _port("float32", None, 8), 1),
        (bytes(1), "sign_bits", _port("int8", None, 8), 1),
        (b"\x02", "raw", _port("bool", None), 1),
    ],
)
def test_bytes_that_do_not_fit_are_refused(raw: bytes, encoding: str, port: Port, batch: int) -> None:
    with pytest.raises(InvalidError, match="t:"):
        decode(raw, encoding, port, batch)


def test_a_strided_view_crosses_as_its_elements() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    assert np.array_equal(decode(encode(x, "float32"), "float32", _port("float32", None, 2), 3), x)

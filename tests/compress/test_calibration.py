"""The user's data: what does not fit is an error that names the array, what it is and what it must be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshd.compress.calibration import read
from meshd.errors import InvalidError, NotFoundError
from meshd.model.graph import Port, TensorType

PORT = Port("x", TensorType("float32", (None, 2, 3)))
GOOD = np.zeros((4, 2, 3), np.float32)


def _file(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def test_one_input_may_have_any_name(tmp_path: Path) -> None:
    data = read(_file(tmp_path, images=GOOD.astype(np.float64), labels=np.arange(4, dtype=np.uint8)), [PORT])
    assert data.count == 4
    assert data.inputs[0].dtype == np.float32
    assert data.labels is not None
    assert data.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": GOOD[:0]}, "empty"),
        ({"x": GOOD[:, :1]}, r"shape \[4, 1, 3\]; the model takes float32 \(count, 2, 3\)"),
        ({"x": GOOD[0]}, r"shape \[2, 3\]"),
        ({"x": GOOD.astype(np.uint8)}, "x is uint8; the model takes float32"),
        ({"x": np.where(np.arange(4).reshape(4, 1, 1) == 1, np.nan, GOOD)}, "1 of 4 items of x hold NaN or infinity"),
        ({"x": GOOD, "labels": np.zeros(3, np.int64)}, "they must be 4 whole numbers"),
        ({"x": GOOD, "labels": np.zeros(4)}, "whole numbers"),
        ({"x": GOOD}, "no array 'labels'"),
        ({"a": GOOD, "b": GOOD}, "no array 'x'"),
        ({"labels": np.zeros(4, np.int64)}, "none but labels"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        read(_file(tmp_path, **arrays), [PORT], labelled=True)


def test_inputs_must_have_as_many_items(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="differ in their count"):
        read(_file(tmp_path, x=GOOD, z=GOOD[:2]), [PORT, Port("z", PORT.type)])


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read(tmp_path / "none.npz", [PORT])
    for junk in (b"", b"junk", b"PK\x03\x04 and then nothing"):
        (tmp_path / "junk.npz").write_bytes(junk)
        with pytest.raises(InvalidError, match=r"no \.npz file"):
            read(tmp_path / "junk.npz", [PORT])
    np.save(tmp_path / "one.npy", GOOD)
    with pytest.raises(InvalidError, match=r"no \.npz file"):
        read(tmp_path / "one.npy", [PORT])
    objects = _file(tmp_path, x=np.array([{}], dtype=object))
    with pytest.raises(InvalidError, match=r"no \.npz file"):
        read(objects, [PORT])

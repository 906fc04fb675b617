"""Two hundred spoiled models, and as many real ones: each is refused with words, or runs.

Ten thousand by `python -m tests.model.fuzz`.
"""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.model.fuzz import runs, small_real_models
from tests.model.networks import demo_like, model, node


def _recurrent() -> bytes:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((1, 16, 3)).astype(np.float32),
        "r": rng.standard_normal((1, 16, 4)).astype(np.float32),
        "s": np.array(0.02, np.float32),
        "z": np.array(3, np.uint8),
        "at": np.array([2, 0, 1]),
        "shape": np.array([1, -1]),
    }
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r"], ["y", "h"], hidden_size=4),
        node("Gather", ["h", "at"], ["g"], axis=2),
        node("QuantizeLinear", ["g", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Softmax", ["d"], ["p"], axis=-1),
        node("Resize", ["y", "", "scales"], ["u"], mode="linear"),
        node("Slice", ["u", "from", "to", "axes"], ["c"]),
        node("Reshape", ["c", "shape"], ["out"]),
    ]
    weights |= {
        "scales": np.array([1, 1, 1, 2], np.float32),
        "from": np.array([1]),
        "to": np.array([4]),
        "axes": np.array([0]),
    }
    return model(nodes, {"x": [1, 5, 3]}, ["out", "p"], weights)


@pytest.mark.filterwarnings("ignore")
def test_spoiled_models_are_refused_or_run() -> None:
    demo = Path(__file__).resolve().parents[2] / "meshd" / "demo" / "fashion.onnx"
    with np.errstate(all="ignore"):
        told = runs([demo_like(), _recurrent(), demo.read_bytes()], range(200))
    print(dict(told))
    assert told["refused"] > 50
    assert told["ran"] > 10


@pytest.mark.filterwarnings("ignore")
def test_spoiled_real_models_are_refused_or_run() -> None:
    try:
        models = small_real_models()
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"NOT TESTED, the models are not to be had: {error}")
    with np.errstate(all="ignore"):
        told = runs(models, range(200))
    assert told["refused"] > 50
    assert told["ran"] > 10

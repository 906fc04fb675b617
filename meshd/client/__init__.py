"""Typed Python clients of a mesh.

`Inference` (blocking) and `TrioInference` ask for answers, from any host, over any of several nodes; `deploy` takes a PyTorch
module or an ONNX file to a mesh and gives back a callable; `admin.Admin` is what `meshctl` works with, on a node's own socket.

What is named here is imported when it is first used: `meshctl status` must not load NumPy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshd.client.calls import Answer, TensorSpec
    from meshd.client.deployed import Deployed, deploy
    from meshd.client.inference import Inference
    from meshd.client.trio_inference import TrioInference

__all__ = ["Answer", "Deployed", "Inference", "TensorSpec", "TrioInference", "deploy"]
_WHERE = {
    "Answer": "calls",
    "Deployed": "deployed",
    "Inference": "inference",
    "TensorSpec": "calls",
    "TrioInference": "trio_inference",
    "deploy": "deployed",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'meshd.client' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"meshd.client.{_WHERE[name]}"), name)

"""`deploy`: from a PyTorch module or an ONNX file to a callable that the mesh answers, or this machine where there is no mesh.

Rule 1: torch is imported only where a module is given; the model is converted here, as with `meshctl model push`.
Rule 2: whichever computes, the answers are the same (one engine); which it is, is said.
"""

import inspect
import io
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from meshd.client.admin import Admin, find_socket
from meshd.client.calls import Array
from meshd.client.inference import Inference
from meshd.client.order import order, serves
from meshd.config import NAME_CHARS_MAX
from meshd.errors import ConflictError, MisuseError, UnavailableError
from meshd.model.bundle import Bundle, pack, read_topology
from meshd.model.graph import Port
from meshd.v1 import admin_pb2 as pb

log = logging.getLogger(__name__)

Compute = Callable[[Mapping[str, Array], float], Sequence[Array]]


class Deployed:
    """A model one calls like the module it was made of; a context manager.

    Attributes
    ----------
    name : what it is deployed as
    on_mesh : False: it runs in this process
    inputs, outputs : names, in order
    """

    def __init__(
        self, name: str, on_mesh: bool, inputs: Sequence[Port], outputs: Sequence[str], compute: Compute,
        close: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.name, self.on_mesh = name, on_mesh
        self.inputs, self.outputs = tuple(port.name for port in inputs), tuple(outputs)
        self._types = {port.name: port.type.dtype for port in inputs}
        self._compute, self._close = compute, close

    def __call__(self, *arrays: Any, timeout_s: float = 30, **named: Any) -> Any:
        """The outputs for some inputs, by position or by name, with a batch as their first dimension.

        NumPy arrays give NumPy arrays, PyTorch tensors PyTorch tensors; one output gives one, several a tuple.
        """
        if len(arrays) > len(self.inputs):
            raise MisuseError(f"{self.name} takes {', '.join(self.inputs)}; {len(arrays)} were given")
        given = dict(zip(self.inputs, arrays, strict=False)) | named
        if given.keys() != set(self.inputs):
            raise MisuseError(f"{self.name} takes {', '.join(self.inputs)}, not {', '.join(given) or 'nothing'}")
        plain = {name: np.ascontiguousarray(_numpy(value), self._types[name]) for name, value in given.items()}
        made = self._compute(plain, timeout_s)
        if any(_is_tensor(value) for value in given.values()):
            import torch

            made = [torch.from_numpy(array.copy()) for array in made]
        return made[0] if len(made) == 1 else tuple(made)

    def close(self) -> None:
        """Free the connection. What is deployed stays so: `meshctl retire NAME` ends it."""
        self._close()

    def __enter__(self) -> "Deployed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def deploy(
    module_or_path: Any,
    example: Any = None,
    *,
    name: str = "",
    replicas: int = 2,
    min_segments: int = 1,
    dims: Mapping[str, int] | None = None,
    socket: str | None = None,
    timeout_s: float = 120,
) -> Deployed:
    """Have the mesh serve a model, and get something to call.

    Where no daemon runs on this machine the model runs in this process, through the same engine, with a warning that says so.

    Parameters
    ----------
    module_or_path : a `torch.nn.Module`, or the path of an ONNX file
    example : what the module is called with, a tensor or a tuple of them; for a file not needed
    name : what it is deployed as; the class's or the file's name without one. What has that name already is replaced
    replicas, min_segments, timeout_s : as for `meshctl deploy`
    dims : free dimensions of an ONNX file that are to be fixed
    socket : the daemon's admin socket; found like `meshctl` does without one. A daemon that is named must be there

    Raises
    ------
    MisuseError
        No example for a module, or torch or onnx is missing.
    InvalidError
        A model that meshd cannot run; names every layer.
    ConflictError, UnavailableError
        The mesh cannot place it, or did not in time.
    """
    bundle = _bundle(module_or_path, example, name, dims or {})
    graph = read_topology(bundle.topology)
    try:
        place = find_socket(socket)
    except UnavailableError as error:
        if socket or os.environ.get("MESHD_SOCKET"):
            raise
        warnings.warn(f"{graph.name} runs on this machine alone: {error}", stacklevel=2)
        return _here(bundle)
    with Admin(place) as admin:
        digest = admin.push(bundle.topology, bundle.blobs)
        policy = pb.DeployPolicy(replicas=replicas, segments_min=min_segments)
        found = order(admin, graph.name, digest, policy, timeout_s, log.info)
        if not serves(found):
            kind = ConflictError if found.problem else UnavailableError
            raise kind(f"{graph.name}: {found.problem or 'not served in time; see meshctl plan show'}")
        targets = admin.inference_targets()
    inference = Inference(targets)
    outputs = [port.name for port in graph.outputs]

    def compute(inputs: Mapping[str, Array], timeout_s: float) -> list[Array]:
        answer = inference.infer(graph.name, inputs, timeout_s)
        return [answer.outputs[each] for each in outputs]

    return Deployed(graph.name, True, graph.inputs, outputs, compute, inference.close)


def _here(bundle: Bundle) -> Deployed:
    from meshd.engine.segment import compile_segment
    from meshd.model import cuts

    graph = read_topology(bundle.topology)
    whole = compile_segment(graph, 0, len(cuts.layers(graph)), bundle.blobs.__getitem__)
    whole.warm()
    names = [port.name for port in graph.inputs]
    outputs = [port.name for port in graph.outputs]
    return Deployed(
        graph.name, False, graph.inputs, outputs, lambda given, timeout_s: whole.run([given[name] for name in names])
    )


def _bundle(module_or_path: Any, example: Any, name: str, dims: Mapping[str, int]) -> Bundle:
    from meshd.model.onnx_import import import_bytes, import_model

    if isinstance(module_or_path, str | Path):
        path = Path(module_or_path)
        if path.suffix != ".onnx":
            raise MisuseError(
                f"{path}: expected an ONNX file (.onnx) or a module; a saved module is loaded by its own code"
            )
        graph, arrays = import_model(path, dims)
        name = name or path.stem
    else:
        name = name or type(module_or_path).__name__.lower()
        graph, arrays = import_bytes(_exported(module_or_path, example), name)
    if not name.isprintable() or "/" in name or len(name) > NAME_CHARS_MAX:
        raise MisuseError(f"name {name[:40]!r}: 1 to {NAME_CHARS_MAX} printable characters, no slash")
    return pack(replace(graph, name=name), arrays)


def _exported(module: Any, example: Any) -> bytes:
    """The module as ONNX, its first dimension free; its own mode and weights stay as they are."""
    try:
        import torch
    except ImportError:
        raise MisuseError(
            "a module is exported with PyTorch: pip install torch, or give the path of an ONNX file"
        ) from None
    if not isinstance(module, torch.nn.Module):
        raise MisuseError(f"expected a torch.nn.Module or the path of an ONNX file, not {type(module).__name__}")
    if example is None:
        raise MisuseError("a module needs an example of what it is called with, such as torch.zeros(1, 3, 224, 224)")
    given = tuple(torch.as_tensor(each) for each in (example if isinstance(example, tuple | list) else (example,)))
    inputs = list(inspect.signature(module.forward).parameters)[: len(given)]
    was_training, written = module.training, io.BytesIO()
    module.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # NB the newer exporter needs onnxscript, and unrolls what this one keeps; it is called deprecated all the same.
            warnings.simplefilter("ignore")
            made = module(*given)
            count = len(made) if isinstance(made, tuple | list) else 1
            outputs = ["output"] if count == 1 else [f"output{i}" for i in range(count)]
            free = {each: {0: "batch"} for each in (*inputs, *outputs)}
            torch.onnx.export(
                module, given, written, input_names=inputs, output_names=outputs, dynamic_axes=free, dynamo=False
            )
    finally:
        module.train(was_training)
    return written.getvalue()


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def _numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if _is_tensor(value) else value

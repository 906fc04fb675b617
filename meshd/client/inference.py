"""Inference by the Open Inference Protocol v2, blocking: NumPy arrays in and out, over one node or whichever of several lives.

tritonclient works unchanged with any one node; this one goes on by another when its node is gone.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any

import grpc

from meshd.client import calls
from meshd.client.calls import WINDOW, Answer, Array, Methods, Progress, Signature, TensorSpec
from meshd.client.nodes import Nodes, Round

__all__ = ["Answer", "Array", "Inference", "TensorSpec"]


class Inference:
    """A client; a context manager, thread-safe. Methods raise `meshd.errors` only.

    Any node of a mesh answers for all of it. Name several, and a call that meets a node that is gone, stopping or overloaded
    goes to the next (see `nodes`); what a node says of the request itself is final.

    Parameters
    ----------
    targets : one or several, gRPC's way to name them: `unix:/run/meshd/client.sock`, `10.0.0.5:8001`
    token : bearer token, for nodes of other hosts; a node knows only those made on it, so several nodes may need one each
    root_certificates : PEM that a node's certificate is checked against, those of several nodes one after another; None: no
        TLS (this machine only)
    """

    def __init__(
        self, targets: str | Sequence[str], token: str | Sequence[str] = "", root_certificates: bytes | None = None
    ) -> None:
        self._nodes = Nodes(targets)
        self._methods = Methods(self._nodes, token, root_certificates)

    def __enter__(self) -> "Inference":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all calls."""
        self._methods.close()

    def describe(self, name: str, timeout_s: float = 10) -> Signature:
        """Inputs and outputs of a deployment."""
        return calls.read_signature(self._call(self._methods.describe, calls.describe_request(name), timeout_s))

    def infer(self, name: str, inputs: Mapping[str, Array], timeout_s: float = 30) -> Answer:
        """Run deployment `name`. Arrays must have the types and shapes that `describe` says; no copy is made but gRPC's.

        `timeout_s` is for all of it: a node that is overloaded is asked again when it said to, as long as there is time.
        """
        began_ns = time.monotonic_ns()
        told = self._call(self._methods.infer, calls.infer_request(name, inputs), timeout_s)
        return calls.read_answer(told, (time.monotonic_ns() - began_ns) // 1000)

    def stream(
        self,
        name: str,
        inputs: Iterable[Mapping[str, Array]],
        timeout_s: float = 30,
        progress: Progress = lambda done: None,
    ) -> Iterator[Answer]:
        """Run deployment `name` on one after another; answers come in order, as soon as they are there.

        `WINDOW` are under way at once; `inputs` is read as room comes. `timeout_s` is for each, `progress(done)` is called
        after each. The first that fails ends the stream.
        """
        waiting: deque[Future[Answer]] = deque()
        items = iter(inputs)
        with ThreadPoolExecutor(WINDOW, "meshd-client") as threads:
            try:
                done = 0
                while True:
                    for item in islice(items, WINDOW - len(waiting)):
                        waiting.append(threads.submit(self.infer, name, item, timeout_s))
                    if not waiting:
                        return
                    answer = waiting.popleft().result()
                    done += 1
                    progress(done)
                    yield answer
            finally:
                for each in waiting:
                    each.cancel()

    def _call(self, method: Sequence[Any], request: Any, timeout_s: float) -> Any:
        until_s = time.monotonic() + timeout_s
        tried = Round(self._nodes, until_s)
        while True:
            try:
                left_s = max(until_s - time.monotonic(), 0.001)
                return method[tried.node](request, timeout=left_s, metadata=self._methods.metadata[tried.node])
            except grpc.RpcError as error:
                time.sleep(calls.pause_after(error, tried))

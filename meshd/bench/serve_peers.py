"""Other servers of the same protocol, for `meshd bench serve --peers`: the same request to a model that does nothing.

Peers are never needed: where none is found in the interpreters named, there are no rows.
"""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from meshd.errors import UnavailableError
from meshd.wire import oip

START_S: Final = 60.0
MODEL: Final = "nothing"
PROGRAM: Final = Path(__file__).with_name("peer_server.py")


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that runs."""

    name: str
    version: str
    call: Callable[[], object]
    """One request of the size that was asked for."""


@contextmanager
def peers(pythons: Sequence[str], size: int) -> Iterator[list[Peer]]:
    """MLServer, from the first of these interpreters that has it; its request carries `size` bytes."""
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec('mlserver') is None)"
    for python in pythons:
        if subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0:
            with _mlserver(python, size) as peer:
                yield [peer]
            return
    yield []


@contextmanager
def _mlserver(python: str, size: int) -> Iterator[Peer]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [python, str(PROGRAM), MODEL, str(port)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        version = json.loads(process.stdout.readline())["version"]
        with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
            infer = channel.unary_unary(
                f"/{oip.INFERENCE}/ModelInfer", request_serializer=None, response_deserializer=None
            )
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, size // 4]}
            request = oip.message("inference.ModelInferRequest")
            data = request(model_name=MODEL, inputs=[tensor], raw_input_contents=[bytes(size)]).SerializeToString()
            _await(lambda: infer(data, timeout=5), process)
            yield Peer("mlserver", version, lambda: infer(data, timeout=30))
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _await(call: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            call()
            return
        except grpc.RpcError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise UnavailableError(f"MLServer does not answer: {error}") from error
            time.sleep(0.2)

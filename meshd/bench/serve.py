"""A request through meshd against the bare transport of the same bytes, alternated in one run.

Rows, by size: a bare Python gRPC echo; a request to a do-nothing model on the entry itself; a gRPC echo over mutual TLS; two
bare framed messages over mutual TLS; a request to a do-nothing model one hop away. Ratios are of medians.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from meshd.bench.serve_node import ECHO, FRAME_BYTES_MAX, NODES, SIZES, deployment
from meshd.bench.serve_peers import Peer, peers
from meshd.core.ids import Address
from meshd.net.identity import Identity
from meshd.net.link_greeting import LinkKind, dial
from meshd.net.tls import Roster
from meshd.wire import oip
from meshd.wire.frames import FrameReader, whole

Call = Callable[[], object]
ROUNDS: Final = {4 * 1024: 300, 256 * 1024: 150, 4 * 1024 * 1024: 40}
WARM: Final = 20
CALLERS: Final = 16
LIMITS: Final = {
    "local": {4 * 1024: 1.3, 256 * 1024: 1.3, 4 * 1024 * 1024: 1.3},
    "hop_over_grpc": {4 * 1024: 0.5, 256 * 1024: 0.7, 4 * 1024 * 1024: 1.1},
    "hop_over_frames": {4 * 1024: 2.5, 256 * 1024: 1.6, 4 * 1024 * 1024: 1.6},
}
"""What each ratio should stay below on an idle machine."""
PEER_RATIO_MIN: Final = 2.0
"""Of our requests a second to a peer's."""


def document(seconds: float = 2.0, pythons: Sequence[str] = ()) -> dict[str, Any]:
    """The whole measurement, as the JSON that `-o json` prints.

    Parameters
    ----------
    seconds : for each throughput
    pythons : interpreters in which peers are looked for
    """
    with _calls() as calls:
        rows = [_row(size, calls[size]) for size in SIZES]
        small = calls[SIZES[0]]
        rates = {name: round(_rate(small[name], seconds), 1) for name in ("echo", "local", "hop")}
        with peers(pythons, SIZES[0]) as found:
            beside = [_beside(small["local"], peer, seconds) for peer in found]
    return {
        "apiVersion": "meshd/v1",
        "kind": "ServeBench",
        "latency": rows,
        "throughput": {
            "bytes": SIZES[0],
            "callers": CALLERS,
            **rates,
            "ratio": round(rates["local"] / rates["echo"], 3),
        },
        "peers": beside,
    }


def _beside(ours: Call, peer: Peer, seconds: float) -> dict[str, Any]:
    """Requests a second of `CALLERS`, and milliseconds of one alone, ours and theirs alternated."""
    for _ in range(WARM):
        peer.call()
    turns = [(_rate(ours, seconds / 2), _rate(peer.call, seconds / 2)) for _ in range(2)]
    rate, theirs = (statistics.mean(each) for each in zip(*turns, strict=True))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS[SIZES[0]]):
        for call, taken in zip((ours, peer.call), times, strict=True):
            began = time.perf_counter()
            call()
            taken.append((time.perf_counter() - began) * 1e3)
    ms, theirs_ms = map(statistics.median, times)
    return {
        "name": peer.name,
        "version": peer.version,
        "bytes": SIZES[0],
        "callers": CALLERS,
        "ours": round(rate, 1),
        "theirs": round(theirs, 1),
        "ratio": round(rate / theirs, 2),
        "least": PEER_RATIO_MIN,
        "ours_ms": round(ms, 3),
        "theirs_ms": round(theirs_ms, 3),
    }


def _row(size: int, calls: Mapping[str, Call]) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(WARM + ROUNDS[size]):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn >= WARM:
                times[name].append((time.perf_counter() - began) * 1e3)
    ms = {name: statistics.median(taken) for name, taken in times.items()}
    added = ms["hop"] - ms["local"]
    ratios = {
        "local": ms["local"] / ms["echo"],
        "hop_over_grpc": added / ms["echo_tls"],
        "hop_over_frames": added / ms["frames_tls"],
    }
    return {
        "bytes": size,
        "ms": {name: round(value, 3) for name, value in ms.items()},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "limits": {name: LIMITS[name][size] for name in ratios},
    }


def _rate(call: Call, seconds: float) -> float:
    """Calls a second of `CALLERS` in a closed loop."""

    def work(_: int) -> int:
        count, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            call()
            count += 1
        return count

    with ThreadPoolExecutor(CALLERS) as pool:
        return sum(pool.map(work, range(CALLERS))) / seconds


@contextmanager
def _calls() -> Iterator[dict[int, dict[str, Call]]]:
    """Two nodes as processes, and for each size one call of each kind."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshd-bench-")))
        for name in NODES:
            (folder / name).mkdir(mode=0o700)
        identities = {name: Identity.load_or_create(folder / name, "bench") for name in NODES}
        ports = {}
        nodes = []
        for name in NODES:
            words = [sys.executable, "-m", "meshd.bench.serve_node", str(folder), name]
            node = stack.enter_context(
                subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(node.kill)
            nodes.append(node)
            ports[name] = _line(node)
        for name, node in zip(NODES, nodes, strict=True):
            assert node.stdin is not None
            node.stdin.write(json.dumps({other: ports[other]["links"] for other in NODES if other != name}) + "\n")
            node.stdin.flush()
        for node in nodes:
            _line(node)
        near = identities["near"]
        plain = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{ports['near']['echo']}", _OPTIONS))
        server = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{ports['near']['oip']}", _OPTIONS))
        credentials = grpc.ssl_channel_credentials(
            identities["far"].certificate_pem, near.key_pem, near.certificate_pem
        )
        secured = stack.enter_context(
            grpc.secure_channel(f"127.0.0.1:{ports['far']['echo_tls']}", credentials, _OPTIONS)
        )
        roster = Roster(near)
        roster.trust(identities["far"].node, identities["far"].certificate)
        far = Address("127.0.0.1", ports["far"]["links"])
        framed = stack.enter_context(dial(roster, identities["far"].node, [far], LinkKind.CONTROL))
        framed.settimeout(30)
        reader = FrameReader(framed.recv_into, 1024, FRAME_BYTES_MAX)

        def frames(data: bytes) -> Call:
            def call() -> object:
                framed.sendall(whole(b"h", [data]))
                return reader.read()

            return call

        def unary(channel: grpc.Channel, path: str, data: bytes) -> Call:
            method = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
            return lambda: method(data, timeout=30)

        yield {
            size: {
                "echo": unary(plain, f"/{ECHO}/Echo", _request("near", size)),
                "local": unary(server, f"/{oip.INFERENCE}/ModelInfer", _request("near", size)),
                "echo_tls": unary(secured, f"/{ECHO}/Echo", bytes(size)),
                "frames_tls": frames(bytes(size)),
                "hop": unary(server, f"/{oip.INFERENCE}/ModelInfer", _request("far", size)),
            }
            for size in SIZES
        }


_OPTIONS: Final = [
    ("grpc.max_receive_message_length", FRAME_BYTES_MAX),
    ("grpc.max_send_message_length", FRAME_BYTES_MAX),
    ("grpc.ssl_target_name_override", "meshd"),
    ("grpc.enable_http_proxy", 0),
]


def _line(node: "subprocess.Popen[str]") -> Any:
    assert node.stdout is not None
    return json.loads(node.stdout.readline())


def _request(node: str, size: int) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, size // 4]}
    request = oip.message("inference.ModelInferRequest")
    return bytes(
        request(
            model_name=deployment(node, size), inputs=[tensor], raw_input_contents=[bytes(size)]
        ).SerializeToString()
    )

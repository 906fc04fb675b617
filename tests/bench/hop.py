"""One hop to an owner and back, by transport: `python -m tests.bench.hop [-o json] [--rounds 8]`.

The far end is another process on this machine. All rows are alternated in one run, so load of the machine falls on all
alike; read the ratios. Rows:

    grpc           bare unary echo
    grpc_mtls      the same over mutual TLS: what a hop is compared with
    grpc_stream    messages both ways on one long-lived stream, no TLS
    sockets        two one-way TCP connections, framed, threads at both ends
    sockets_mtls   the same over mutual TLS 1.3: the bare transport
    links          `net.link_data`: Forward there, Ack and Answer back
"""

import argparse
import json
import queue
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from meshd.config import DATA_FRAME_BYTES_MAX, HEADER_BYTES_MAX, KIB, MIB, SWITCH_INTERVAL_S
from meshd.core.ids import NodeId
from meshd.core.journey import frames as core
from meshd.net import tcp
from meshd.net.identity import Identity
from meshd.net.tls import Roster
from meshd.wire.frames import FrameReader, opening, pieces, whole
from tests.net.data_nodes import DataNode, Heard, forward

SIZES = {"4 KiB": 4 * KIB, "256 KiB": 256 * KIB, "4 MiB": 4 * MIB}
CALLS = {"4 KiB": 60, "256 KiB": 30, "4 MiB": 6}
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
_WAIT_S = 20.0


def send_frame(connection: socket.socket, payload: Any) -> None:
    """As plainly as frames can be sent."""
    if len(payload) <= 64 * KIB:
        connection.sendall(whole(b"h", [payload]))
        return
    connection.sendall(opening(b"h", len(payload)))
    for piece in pieces([payload]):
        connection.sendall(piece)


def roster(folder: Path, mine: str, other: str) -> Roster:
    """A roster of two."""
    made = Roster(Identity.load_or_create(folder / mine))
    peer = Identity.load_or_create(folder / other)
    made.trust(peer.node, peer.certificate)
    return made


# ---------------------------------------------------------------- the far end


class Far:
    """Echoes on every transport; `ports` tells where."""

    def __init__(self, folder: Path) -> None:
        self.roster = roster(folder, "far", "near")
        self.node = DataNode(self.roster.identity)
        near = Identity.load_or_create(folder / "near")
        self.node.roster.trust(near.node, near.certificate)
        self.node.links.attach(Heard(self._answer))
        self.ports = {"links": self.node.address.port}
        for row, secured in (("sockets", False), ("sockets_mtls", True)):
            listener = socket.create_server(("127.0.0.1", 0))
            self.ports[row] = listener.getsockname()[1]
            threading.Thread(target=self._sockets, args=(listener, secured), daemon=True).start()
        self.server = grpc.server(futures.ThreadPoolExecutor(4), options=_OPTIONS)
        echo = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        stream = grpc.stream_stream_rpc_method_handler(lambda requests, _: requests)
        handlers = grpc.method_handlers_generic_handler("Hop", {"Echo": echo, "Stream": stream})
        self.server.add_generic_rpc_handlers((handlers,))
        self.ports["grpc"] = self.server.add_insecure_port("127.0.0.1:0")
        identity = self.roster.identity
        near_pem = near.certificate_pem
        credentials = grpc.ssl_server_credentials([(identity.key_pem, identity.certificate_pem)], near_pem, True)
        self.ports["grpc_mtls"] = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.server.start()

    def _answer(self, peer: NodeId, frame: core.Frame, payload: memoryview) -> None:
        assert isinstance(frame, core.Forward)
        self.node.links.send(peer, core.Ack(frame.leg, 0))
        self.node.links.send(peer, core.Answer(frame.request, 1, frame.plan, 1, frame.sizes), [payload])

    def _sockets(self, listener: socket.socket, secured: bool) -> None:
        ways = []
        for _ in range(2):
            raw, _ = listener.accept()
            tcp.tune(raw)
            ways.append(self.roster.listener_context().wrap_socket(raw, server_side=True) if secured else raw)
        waiting: queue.SimpleQueue[memoryview] = queue.SimpleQueue()

        def write() -> None:
            while True:
                send_frame(ways[1], waiting.get())

        threading.Thread(target=write, daemon=True).start()
        reader = FrameReader(ways[0].recv_into, HEADER_BYTES_MAX, DATA_FRAME_BYTES_MAX)
        while (frame := reader.read()) is not None:
            waiting.put(frame[1])


# ---------------------------------------------------------------- the near end


def near_grpc(port: int, credentials: grpc.ChannelCredentials | None, streamed: bool) -> Callable[[bytes], int]:
    """Calls by gRPC."""
    options = [*_OPTIONS, ("grpc.ssl_target_name_override", "meshd")]
    target = f"127.0.0.1:{port}"
    channel = (
        grpc.insecure_channel(target, options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options)
    )
    if not streamed:
        call = channel.unary_unary("/Hop/Echo")
        return lambda payload: len(call(payload))
    outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    answers = channel.stream_stream("/Hop/Stream")(iter(outgoing.get, b""))

    def exchange(payload: bytes) -> int:
        outgoing.put(payload)
        return len(next(answers))

    return exchange


def near_sockets(port: int, dial: ssl.SSLContext | None) -> Callable[[bytes], int]:
    """Calls by two one-way connections."""
    ways = []
    for _ in range(2):
        raw = socket.create_connection(("127.0.0.1", port))
        tcp.tune(raw)
        ways.append(dial.wrap_socket(raw) if dial is not None else raw)
    came: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
    reader = FrameReader(ways[1].recv_into, HEADER_BYTES_MAX, DATA_FRAME_BYTES_MAX)

    def read() -> None:
        while (frame := reader.read()) is not None:
            came.put(frame[1])

    threading.Thread(target=read, daemon=True).start()

    def exchange(payload: bytes) -> int:
        send_frame(ways[0], payload)
        return len(came.get(timeout=_WAIT_S))

    return exchange


def near_links(folder: Path, port: int) -> tuple[Callable[[bytes], int], DataNode]:
    """Calls by data links."""
    node = DataNode(Identity.load_or_create(folder / "near"))
    far = Identity.load_or_create(folder / "far")
    node.roster.trust(far.node, far.certificate)
    node.addresses[far.node] = type(node.address)("127.0.0.1", port)
    came: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
    heard = Heard(lambda peer, frame, payload: came.put(payload) if isinstance(frame, core.Answer) else None)
    node.links.attach(heard)
    node.links.ensure(far.node)
    heard.wait(lambda h: h.is_up(far.node))
    number = iter(range(1_000_000))

    def exchange(payload: bytes) -> int:
        assert node.links.send(far.node, forward(next(number), len(payload)), [payload]) is not None
        return len(came.get(timeout=_WAIT_S))

    return exchange, node


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds by row and size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for who in ("near", "far"):
            (folder / who).mkdir()
            Identity.load_or_create(folder / who)
        words = [sys.executable, "-m", "tests.bench.hop", "--far", str(folder)]
        far = subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        assert far.stdout is not None
        ports = json.loads(far.stdout.readline())
        mine = roster(folder, "near", "far")
        identity, other = mine.identity, Identity.load_or_create(folder / "far")
        mtls = grpc.ssl_channel_credentials(other.certificate_pem, identity.key_pem, identity.certificate_pem)
        links, node = near_links(folder, ports["links"])
        rows = {
            "grpc": near_grpc(ports["grpc"], None, False),
            "grpc_mtls": near_grpc(ports["grpc_mtls"], mtls, False),
            "grpc_stream": near_grpc(ports["grpc"], None, True),
            "sockets": near_sockets(ports["sockets"], None),
            "sockets_mtls": near_sockets(ports["sockets_mtls"], mine.dialler_context(other.node)),
            "links": links,
        }
        took: dict[str, dict[str, list[float]]] = {row: {size: [] for size in SIZES} for row in rows}
        for each in range(rounds + 1):
            for size, count in CALLS.items():
                payload = bytes(SIZES[size])
                for row, call in rows.items():
                    for _ in range(count):
                        start = time.perf_counter()
                        assert call(payload) == len(payload)
                        if each:  # The first round warms.
                            took[row][size].append(time.perf_counter() - start)
        node.close()
        far.kill()
        far.wait()
    return {row: {s: round(1e3 * statistics.median(t), 3) for s, t in sizes.items()} for row, sizes in took.items()}


def main() -> int:
    """Measure, or be the far end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", choices=["table", "json"], default="table")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--far", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if given.far:
        print(json.dumps(Far(given.far).ports), flush=True)
        sys.stdin.read()
        return 0
    found = measure(given.rounds)
    if given.o == "json":
        print(json.dumps({"apiVersion": "meshd/v1", "kind": "HopReport", "p50_ms": found}))
        return 0
    print(f"{'p50, ms':14}" + "".join(f"{size:>10}{'/tls':>7}{'/grpc':>7}" for size in SIZES))
    for row, sizes in found.items():
        cells = "".join(
            f"{ms:10.3f}{ms / found['sockets_mtls'][size]:7.2f}{ms / found['grpc_mtls'][size]:7.2f}"
            for size, ms in sizes.items()
        )
        print(f"{row:14}{cells}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

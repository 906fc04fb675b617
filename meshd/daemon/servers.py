"""gRPC servers: one for each kind of caller, each with its own threads, cap and message limit.

Rule 1: `grpc.so_reuseport` is off: a second daemon on a port must fail, not silently share its connections.
Rule 2: a unix socket is made under umask 0117, so it is 0660 from the first moment; a stale one is removed, a live one is
not touched.
Rule 3: a capped server refuses health checks too: never serve two kinds of callers with one server.
"""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from meshd.errors import UnavailableError

SOCKET_PATH_BYTES_MAX = 100
"""Linux allows 107; the kernel's message for a longer one helps nobody."""


def make_server(threads: int, message_bytes_max: int, name: str, calls_max: int | None = None) -> grpc.Server:
    """A server without services or ports yet."""
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        # Clients ping every two seconds while a call waits (`client.calls`); gRPC would take that for an attack.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.max_ping_strikes", 0),
    ]
    pool = ThreadPoolExecutor(threads, name)
    return grpc.server(pool, options=options, maximum_concurrent_rpcs=calls_max)


def listen_unix(server: grpc.Server, path: Path) -> str:
    """Let `server` answer on a unix socket with mode 0660; returns the path. Before `server.start`.

    Raises
    ------
    UnavailableError
        Another daemon answers there, or the folder cannot be written.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise UnavailableError(
            f"{path}: a socket's path is at most {SOCKET_PATH_BYTES_MAX} bytes; set a shorter --runtime-dir"
        )
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_stale(path)
        before = os.umask(0o117)
        try:
            bound = server.add_insecure_port(f"unix:{path}")
        finally:
            os.umask(before)
    except (OSError, RuntimeError) as error:
        raise UnavailableError(f"{path}: {error}; check the folder's owner, or set --runtime-dir") from error
    if not bound:
        raise UnavailableError(f"{path}: could not be bound; check the folder's owner, or set --runtime-dir")
    return str(path)


def listen_tcp(server: grpc.Server, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
    """Let `server` answer on host:port (0: any free one); returns the port. Without credentials on loopback only."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if credentials is None:
            assert host in ("127.0.0.1", "::1"), f"plain gRPC on {host}: only on loopback"
            bound = server.add_insecure_port(where)
        else:
            bound = server.add_secure_port(where, credentials)
    except RuntimeError as error:
        raise UnavailableError(
            f"{where}: {error}; is another daemon running? set --grpc-port (0: any free one)"
        ) from error
    if not bound:
        raise UnavailableError(
            f"{where}: could not be bound; is another daemon running? set --grpc-port (0: any free one)"
        )
    return int(bound)


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise UnavailableError(f"{path}: another daemon answers there; stop it, or set --runtime-dir and --state-dir")

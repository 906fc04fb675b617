"""Real daemons on the loopback: start, stop, find each other, survive kill -9 and garbage."""

import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.core.ids import Address
from meshd.daemon.settings import address
from meshd.net.key import MeshKey
from tests.e2e.daemons import Daemon, cache_with_rates


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache_with_rates(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def key(tmp_path: Path) -> str:
    MeshKey.new().save(tmp_path / "mesh.key")
    return str(tmp_path / "mesh.key")


@pytest.fixture
def alone(tmp_path: Path, cache: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "alone", cache) as daemon:
        yield daemon.ready()


def test_a_daemon_without_a_key_runs_alone_and_stops_when_told(alone: Daemon) -> None:
    with alone.admin() as admin:
        status = admin.status()
    assert status.mesh_id == ""
    assert [node.name for node in status.nodes] == ["alone"]
    assert {each.address.split(":")[0] for each in status.listeners if ":" in each.address} == {"127.0.0.1"}
    assert alone.stop() == 0
    assert "stopped" in alone.log()
    assert not alone.socket.exists()


def test_a_daemon_that_only_routes_loads_no_compiler(alone: Daemon) -> None:
    assert alone.process is not None
    mapped = Path(f"/proc/{alone.process.pid}/maps").read_text()
    assert "llvmlite" not in mapped
    assert "cygrpc" in mapped


def test_a_process_that_was_stopped_for_a_while_accuses_nobody(tmp_path: Path, cache: Path, key: str) -> None:
    with Daemon(tmp_path / "a", cache, mesh_key=key, discovery="false") as a:
        a.ready()
        with Daemon(tmp_path / "b", cache, mesh_key=key, discovery="false", seeds=a.address("gossip")) as b:
            b.ready()
            b.wait_nodes(2)
            assert b.process is not None
            for _ in range(2):
                b.process.send_signal(signal.SIGSTOP)
                time.sleep(2.5)
                b.process.send_signal(signal.SIGCONT)
                time.sleep(1)
            with b.admin() as admin:
                told = [(event.kind, event.subject) for event, _ in admin.events(once=True)]
            assert not [kind for kind, _ in told if kind in ("member.suspect", "member.dead")]
            a.wait_nodes(2)


def test_two_daemons_find_each_other_by_seed_and_say_goodbye(tmp_path: Path, cache: Path, key: str) -> None:
    with Daemon(tmp_path / "a", cache, mesh_key=key, discovery="false") as a:
        a.ready()
        with Daemon(tmp_path / "b", cache, mesh_key=key, discovery="false", seeds=a.address("gossip")) as b:
            b.ready()
            a.wait_nodes(2)
            b.wait_nodes(2)
            assert b.stop() == 0
        a.wait_nodes(1)
        assert a.stop() == 0


def test_daemons_of_one_key_find_each_other_by_mdns_and_others_stay_out(tmp_path: Path, cache: Path, key: str) -> None:
    other = tmp_path / "other.key"
    MeshKey.new().save(other)
    with (
        Daemon(tmp_path / "a", cache, mesh_key=key) as a,
        Daemon(tmp_path / "b", cache, mesh_key=key) as b,
        Daemon(tmp_path / "c", cache, mesh_key=str(other)) as c,
    ):
        for daemon in (a, b, c):
            daemon.ready()
        a.wait_nodes(2)
        b.wait_nodes(2)
        c.wait_nodes(1)
        with c.admin() as admin:
            stranger = admin.status().node_id
        until = time.monotonic() + 15
        with a.admin() as admin:
            while not any(f.kind == "other_key" and f.subject.startswith(stranger) for f in admin.diagnose()):
                assert time.monotonic() < until, a.log()
                time.sleep(0.2)


def test_state_survives_kill_9(tmp_path: Path, cache: Path) -> None:
    daemon = Daemon(tmp_path / "a", cache)
    with daemon:
        daemon.ready()
        with daemon.admin() as admin:
            before = admin.status().nodes[0]
            admin.create_token("laptop", "client")
        daemon.kill()
    with daemon:
        daemon.ready()
        with daemon.admin() as admin:
            after = admin.status().nodes[0]
            assert after.id == before.id
            assert after.boot >> 32 == (before.boot >> 32) + 1
            assert [token.name for token in admin.tokens()] == ["laptop"]


def test_a_second_daemon_on_the_same_folder_or_port_says_what_to_do(alone: Daemon, tmp_path: Path, cache: Path) -> None:
    with Daemon(alone.folder, cache) as twin:
        assert twin.process is not None
        assert twin.process.wait(20) == 4
        assert "--state-dir" in twin.log()
    port = alone.address("gossip").rpartition(":")[2]
    with Daemon(tmp_path / "b", cache, gossip_port=port) as second:
        assert second.process is not None
        assert second.process.wait(20) == 4
        assert port in second.log()


def test_a_second_signal_ends_at_once(alone: Daemon) -> None:
    assert alone.process is not None
    alone.process.send_signal(signal.SIGSTOP)
    alone.process.send_signal(signal.SIGTERM)
    alone.process.send_signal(signal.SIGINT)
    alone.process.send_signal(signal.SIGCONT)
    # Whichever it is, drained or ended at once, it does not hang.
    assert alone.process.wait(20) in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_the_service_manager_hears_ready_watchdog_and_stopping(tmp_path: Path, cache: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        with Daemon(tmp_path / "a", cache, environ) as daemon:
            assert manager.recv(4096).startswith(b"READY=1\nSTATUS=1 nodes alive")
            assert manager.recv(4096) == b"WATCHDOG=1"
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            while not manager.recv(4096).startswith(b"STOPPING=1"):
                pass
            assert daemon.process.wait(20) == 0


JUNK = (
    b"\0" * 100,
    os.urandom(600),
    b"GET / HTTP/1.1\r\n\r\n",
    b"C",
    b"D" + b"\x16\x03\x01\x02\x00" + b"\xff" * 300,
    b"B" * 70_000,
)


def test_garbage_on_every_port_is_survived(tmp_path: Path, cache: Path, key: str) -> None:
    with Daemon(tmp_path / "a", cache, mesh_key=key, discovery="false") as daemon:
        daemon.ready()
        with daemon.admin() as admin:
            listeners = {each.role: each.address for each in admin.status().listeners}
        for role, where in listeners.items():
            for junk in JUNK:
                if role == "gossip":
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                        place = address(where)
                        sender.sendto(junk[:60_000], (place.host, place.port))
                else:
                    _send_junk(where, junk)
            if role in ("links", "grpc"):
                _try_wrong_tls(address(where))
        with daemon.admin() as admin:
            assert admin.status().nodes[0].name == "a"
        refused = _metrics(listeners["metrics"])
        assert 'meshd_gossip_refused_total{reason="malformed"}' in refused
        assert 'meshd_links_total{kind="data",what="refused_greeting"}' in refused
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log()


def _send_junk(where: str, junk: bytes) -> None:
    family, place = (socket.AF_UNIX, where) if where.startswith("/") else (socket.AF_INET, _pair(where))
    with socket.socket(family) as caller:
        caller.settimeout(5)
        try:
            caller.connect(place)
            caller.sendall(junk)
            caller.shutdown(socket.SHUT_WR)
            while caller.recv(4096):
                pass
        except OSError:
            return


def _try_wrong_tls(place: Address) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((place.host, place.port), 5) as raw, context.wrap_socket(raw) as stream:
            stream.settimeout(5)
            stream.sendall(b"junk")
            stream.recv(100)
    except OSError:
        return


def _pair(where: str) -> tuple[str, int]:
    place = address(where)
    return place.host, place.port


def _metrics(where: str) -> str:
    with socket.create_connection(_pair(where), 5) as caller:
        caller.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: caller.recv(65536), b"")).decode()

"""The admin API over a real socket: what it tells, what it refuses, and how errors cross."""

import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from meshd.client.admin import Admin, find_socket
from meshd.config import WATCHERS_MAX
from meshd.core import events
from meshd.core.events import Refused
from meshd.core.plan import Objective
from meshd.daemon.servers import listen_unix, make_server
from meshd.daemon.services.roles import Role
from meshd.errors import ConflictError, Exit, InvalidError, MisuseError, NotFoundError, UnavailableError
from meshd.v1 import admin_pb2 as pb
from meshd.v1 import admin_pb2_grpc
from tests.daemon.desks import FakeDaemon, fake_daemon
from tests.daemon.models import small_bundle
from tests.daemon.pictures import A, B, view

BUNDLE = small_bundle()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as made:
        yield made


@pytest.fixture
def admin(daemon: FakeDaemon) -> Iterator[Admin]:
    with Admin(daemon.socket) as made:
        yield made


def test_the_socket_is_for_owner_and_group_from_its_first_moment(daemon: FakeDaemon) -> None:
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660


def test_a_living_daemons_socket_is_not_taken_over_and_a_stale_one_is(daemon: FakeDaemon, tmp_path: Path) -> None:
    other = make_server(1, 1024, "other")
    with pytest.raises(UnavailableError, match="another daemon"):
        listen_unix(other, daemon.socket)
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    listen_unix(other, stale)
    with pytest.raises(UnavailableError, match="--runtime-dir"):
        listen_unix(other, tmp_path / ("x" * 120))
    other.stop(0)


METHODS = list(pb.DESCRIPTOR.services_by_name["AdminService"].methods)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method.name))
def test_no_method_answers_a_caller_without_the_role(tmp_path: Path, method: MethodDescriptor) -> None:
    with fake_daemon(tmp_path, Role.CLIENT) as daemon, grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        make = channel.stream_stream if method.client_streaming else channel.unary_stream
        call = make(f"/{method.containing_service.full_name}/{method.name}")
        with pytest.raises(grpc.RpcError, match="needs the role operator; the caller has client") as caught:
            list(call(iter([b""]) if method.client_streaming else b"", timeout=20))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert (daemon.operator.commands, daemon.announced) == ([], 0)


def test_status_tells_the_view(admin: Admin) -> None:
    status = admin.status()
    assert status.node_id == A
    assert [node.name for node in status.nodes] == ["pi", "nuc", "old"]
    serving = status.deployments[0].serving
    assert [list(part.candidates) for part in serving.segments] == [[A, B], [B]]
    assert status.nodes[0].holdings[0].kernels == {"binary": 1}
    assert status.nodes[1].holdings[0].kernels == {}
    assert status.problems == ["deployment wake: needs 80 MiB more memory"]


def test_watching_shows_each_change_and_ends_with_the_daemon(daemon: FakeDaemon, admin: Admin) -> None:
    seen = admin.watch_status()
    assert next(seen).version == 4
    daemon.board.publish(view(5))
    assert next(seen).version == 5
    daemon.board.close()
    assert list(seen) == []


def test_wait_returns_the_first_status_that_is_as_wanted(daemon: FakeDaemon, admin: Admin) -> None:
    publisher = threading.Timer(0.05, lambda: daemon.board.publish(view(9)))
    publisher.start()
    assert admin.wait(lambda status: status.version == 9, 20, "version 9").version == 9
    publisher.join()
    with pytest.raises(UnavailableError, match="version 10: not within"):
        admin.wait(lambda status: status.version == 10, 0.1, "version 10")


def test_events_come_from_where_one_asks_and_say_what_was_missed(daemon: FakeDaemon, admin: Admin) -> None:
    for number in range(3):
        daemon.board.report(events.Report("member.dead", B, {"number": number, "sure": True}))
    told = [event for event, _ in admin.events(after=1, once=True)]
    assert [(event.sequence, event.kind, dict(event.detail)) for event in told] == [
        (2, "member.dead", {"number": "1", "sure": "true"}),
        (3, "member.dead", {"number": "2", "sure": "true"}),
    ]


def test_streams_have_an_end_and_short_calls_a_place(daemon: FakeDaemon, admin: Admin) -> None:
    streams = [admin.watch_status() for _ in range(WATCHERS_MAX)]
    for stream in streams:
        next(stream)
    with pytest.raises(UnavailableError, match="streams are open"):
        next(admin.watch_status())
    assert admin.status().version == 4


def test_a_model_is_pushed_once_and_then_only_what_is_missing(daemon: FakeDaemon, admin: Admin) -> None:
    sent: list[tuple[int, int]] = []
    model = admin.push(BUNDLE.topology, BUNDLE.blobs, lambda done, total: sent.append((done, total)))
    assert model == BUNDLE.digest
    assert sent == [(256, 512), (512, 512)]
    assert daemon.library.whole() == (BUNDLE.digest,)
    sent.clear()
    assert admin.push(BUNDLE.topology, {}, lambda done, total: sent.append((done, total))) == model
    assert sent == []
    assert daemon.announced >= 2
    [summary] = admin.models()
    assert (summary.name, summary.weight_bytes, summary.layer_count, summary.whole) == ("small", 512, 2, True)
    told = admin.model("small")
    assert [list(port.type.shape) for port in told.inputs] == [[-1, 8]]
    assert [list(layer.operators) for layer in told.layers] == [["MatMul", "Relu"], ["MatMul"]]


def test_a_push_of_junk_is_refused_and_leaves_nothing(daemon: FakeDaemon, admin: Admin) -> None:
    with pytest.raises(MisuseError):
        admin.push(b"\xff\xff\xff", {})
    with pytest.raises(InvalidError, match="convert the model again"):
        admin.push(BUNDLE.topology, {})
    wrong = dict.fromkeys(BUNDLE.blobs, b"x")
    with pytest.raises(MisuseError, match="hash to"):
        admin.push(BUNDLE.topology, wrong)
    with pytest.raises(MisuseError, match="more arrived"):
        admin.push(BUNDLE.topology, {digest: blob * 2 for digest, blob in BUNDLE.blobs.items()})
    assert list(daemon.library.blobs) == []


def test_a_blob_that_no_model_names_is_refused(daemon: FakeDaemon) -> None:
    with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as caught:
            stub.PushBlob(iter([pb.PushBlobRequest(digest="0" * 64, piece=b"x")]))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            stub.PushBlob(iter([]))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_deploy_tells_the_core_everything_about_the_model(daemon: FakeDaemon, admin: Admin) -> None:
    admin.push(BUNDLE.topology, BUNDLE.blobs)
    policy = pb.DeployPolicy(segments_min=2, objective="DEPLOY_OBJECTIVE_ENERGY", avoid=["slow"])
    assert admin.deploy("demo", "small", policy) == "done"
    [order] = daemon.operator.commands
    assert isinstance(order, events.Deploy)
    assert (order.name, order.model, order.input_bytes) == ("demo", BUNDLE.digest, 32)
    assert (len(order.layers), order.crossings) == (2, ((("b", "float32"),),))
    assert (order.policy.replicas, order.policy.objective, order.policy.segments_min) == (2, Objective.ENERGY, 2)


def test_a_deploy_of_an_unknown_or_half_pushed_model_is_refused(daemon: FakeDaemon, admin: Admin) -> None:
    with pytest.raises(NotFoundError, match="model ls"):
        admin.deploy("demo", "none", pb.DeployPolicy())
    daemon.library.add(BUNDLE.digest, BUNDLE.topology)
    with pytest.raises(ConflictError, match="push again"):
        admin.deploy("demo", "small", pb.DeployPolicy())
    for bad in (pb.DeployPolicy(replicas=17), pb.DeployPolicy(segments_min=65), pb.DeployPolicy(keep_to=["x"] * 17)):
        with pytest.raises((MisuseError, ConflictError)):
            admin.deploy("demo", "small", bad)
    with pytest.raises(MisuseError, match="no slash"):
        admin.deploy("a/b", "small", pb.DeployPolicy())


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("CONFLICT", ConflictError),
        ("NOT_FOUND", NotFoundError),
        ("UNAVAILABLE", UnavailableError),
        ("USAGE", MisuseError),
    ],
)
def test_a_refusal_of_the_core_arrives_as_its_error(daemon: FakeDaemon, admin: Admin, kind: str, error: type) -> None:
    daemon.operator.result = Refused(kind, "because; do this")
    with pytest.raises(error, match="because; do this") as caught:
        admin.retire("fashion")
    assert caught.value.exit is Exit[kind]


def test_a_model_in_use_stays_and_another_goes(daemon: FakeDaemon, admin: Admin) -> None:
    admin.push(BUNDLE.topology, BUNDLE.blobs)
    assert admin.remove_model("small") == 512
    assert admin.models() == []


def test_tokens_come_and_go(admin: Admin) -> None:
    secret = admin.create_token("laptop", "client")
    assert secret.startswith("meshd_")
    assert [token.name for token in admin.tokens()] == ["laptop"]
    admin.remove_token("laptop")
    with pytest.raises(NotFoundError):
        admin.remove_token("laptop")


def test_a_stopped_daemon_is_named_as_such(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon, Admin(daemon.socket) as admin:
        admin.status()
        daemon.server.stop(0).wait()
        daemon.socket.unlink(missing_ok=True)
        with pytest.raises(UnavailableError, match="meshd run"):
            admin.status()


def test_the_socket_is_looked_for_where_daemons_put_it(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="meshd run"):
        find_socket(None, {"HOME": str(tmp_path)})
    with fake_daemon(tmp_path / "state" / "run") as daemon:
        assert find_socket(None, {"HOME": "/", "MESHD_STATE_DIR": str(tmp_path / "state")}) == daemon.socket
        assert find_socket(None, {"HOME": "/", "MESHD_SOCKET": str(daemon.socket)}) == daemon.socket
        assert find_socket(str(daemon.socket), {"MESHD_SOCKET": "/nowhere"}) == daemon.socket

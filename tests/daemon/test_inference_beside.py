"""What stands beside inference on the client server: health, reflection, tokens over TLS."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from meshd.daemon.servers import listen_tcp, make_server
from meshd.daemon.services.health import HealthService, add_health
from meshd.daemon.services.inference import THREADS, add_inference
from meshd.daemon.services.methods import Desk
from meshd.daemon.services.reflection import add_reflection
from meshd.daemon.services.roles import Gate, Role
from meshd.wire import oip
from tests.dataplane.fake_mesh import FakeMesh

SERVING, NOT_SERVING = 1, 2


class Beside:
    """A server with everything on it."""

    def __init__(self) -> None:
        self.mesh = FakeMesh([["e"]])
        self.is_ready = True
        self.desk = Desk(self.mesh.door.plane, Gate(Role.CLIENT, {"good": "client"}.get), "0", lambda: self.is_ready)
        self.server = make_server(THREADS, 1 << 20, "client")
        self.service = add_inference(self.server, self.desk)
        self.health: HealthService = add_health(self.server, self.desk)
        add_reflection(self.server, self.desk.gate)
        port = listen_tcp(self.server, "127.0.0.1", 0, None)
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def close(self) -> None:
        self.channel.close()
        self.health.close()
        self.server.stop(0).wait(10)
        self.service.close()
        self.mesh.close()


@pytest.fixture
def beside() -> Iterator[Beside]:
    made = Beside()
    yield made
    made.close()


def _check(beside: Beside, service: str) -> int:
    call = beside.channel.unary_unary(f"/{oip.HEALTH}/Check")
    request = oip.message("grpc.health.v1.HealthCheckRequest")(service=service)
    data = call(request.SerializeToString(), timeout=10)
    return int(oip.message("grpc.health.v1.HealthCheckResponse").FromString(data).status)


def test_health_tells_of_the_node_and_of_each_deployment(beside: Beside) -> None:
    assert [_check(beside, name) for name in ("", oip.INFERENCE, "m")] == [SERVING] * 3
    with pytest.raises(grpc.RpcError, match="no service or deployment 'n'"):
        _check(beside, "n")
    beside.is_ready = False
    assert [_check(beside, name) for name in ("", "m")] == [NOT_SERVING] * 2


def test_a_watch_says_it_once_and_again_when_it_changes(beside: Beside) -> None:
    call = beside.channel.unary_stream(f"/{oip.HEALTH}/Watch")(b"", timeout=20)
    response = oip.message("grpc.health.v1.HealthCheckResponse")
    assert response.FromString(next(call)).status == SERVING
    beside.is_ready = False
    assert response.FromString(next(call)).status == NOT_SERVING
    call.cancel()


def _ask(beside: Beside, *questions: dict[str, str]) -> list[Any]:
    request = oip.message("grpc.reflection.v1.ServerReflectionRequest")
    asked = iter([request(**q).SerializeToString() for q in questions])
    answers = beside.channel.stream_stream(f"/{oip.REFLECTION}/ServerReflectionInfo")(asked, timeout=10)
    return [oip.message("grpc.reflection.v1.ServerReflectionResponse").FromString(a) for a in answers]


def test_reflection_describes_everything_a_client_may_call(beside: Beside) -> None:
    listed, described, missing, extension = _ask(
        beside,
        {"list_services": "*"},
        {"file_containing_symbol": oip.INFERENCE},
        {"file_by_filename": "nothing.proto"},
        {"all_extension_numbers_of_type": "x"},
    )
    assert [s.name for s in listed.list_services_response.service] == list(oip.SERVICES)
    pool = descriptor_pool.DescriptorPool()
    for data in described.file_descriptor_response.file_descriptor_proto:
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(data))
    assert "ModelInfer" in pool.FindServiceByName(oip.INFERENCE).methods_by_name
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert "nothing.proto" in missing.error_response.error_message
    assert extension.error_response.error_code == grpc.StatusCode.UNIMPLEMENTED.value[0]


def test_a_token_is_asked_for_over_tls(tls_pair: tuple[bytes, bytes]) -> None:
    key, certificate = tls_pair
    made = Beside()
    server = make_server(4, 1 << 20, "tls")
    service = add_inference(server, replace(made.desk))
    port = listen_tcp(server, "127.0.0.1", 0, grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    try:
        credentials = grpc.ssl_channel_credentials(certificate)
        options = [("grpc.ssl_target_name_override", "meshd")]
        with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
            live = channel.unary_unary(f"/{oip.INFERENCE}/ServerLive")
            assert live(b"", timeout=10, metadata=[("authorization", "Bearer good")]) == b"\x08\x01"
            for metadata in ([], [("authorization", "Bearer bad")], [("authorization", "good")]):
                with pytest.raises(grpc.RpcError) as caught:
                    live(b"", timeout=10, metadata=metadata)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        server.stop(0).wait(10)
        service.close()
        made.close()


@pytest.fixture(scope="module")
def tls_pair() -> tuple[bytes, bytes]:
    """A P-256 key and its self-signed certificate, as a node makes them."""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("meshd")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)

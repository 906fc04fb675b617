"""Every RPC method and every kind of frame has a row, and the gate holds to the methods'."""

import pytest
from google.protobuf.descriptor import Descriptor

from meshd.daemon.services.roles import ROLES, Gate, Role
from meshd.v1 import admin_pb2, control_pb2, gossip_pb2, intent_pb2, link_pb2
from meshd.wire import oip

FRAMES = (gossip_pb2, control_pb2, link_pb2, intent_pb2)


def _every_method() -> list[str]:
    services = [oip.pool().FindServiceByName(name) for name in oip.SERVICES]
    services += admin_pb2.DESCRIPTOR.services_by_name.values()
    return [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]


def _envelopes() -> list[Descriptor]:
    """What travels by itself as one of several kinds: has a oneof, and is no part of another message."""
    messages = [message for file in FRAMES for message in file.DESCRIPTOR.message_types_by_name.values()]
    parts = {field.message_type.full_name for message in messages for field in message.fields if field.message_type}
    return [message for message in messages if message.oneofs and message.full_name not in parts]


def _every_kind() -> list[str]:
    return [field.full_name for message in _envelopes() for oneof in message.oneofs for field in oneof.fields]


def test_every_method_and_kind_of_every_descriptor_has_a_role_and_no_row_is_left_over() -> None:
    assert [message.name for message in _envelopes()] == ["GossipMessage", "LinkMessage", "DataHeader", "BulkHeader"]
    assert sorted(ROLES) == sorted(_every_method() + _every_kind())


def test_methods_are_for_callers_and_kinds_for_nodes_and_neither_covers_the_other() -> None:
    callers, nodes = {Role.CLIENT, Role.OPERATOR}, {Role.KEYHOLDER, Role.MEMBER, Role.PEER}
    assert {ROLES[method] for method in _every_method()} == callers
    assert {ROLES[kind] for kind in _every_kind()} == nodes
    assert not any(a.covers(b) or b.covers(a) for a in callers for b in nodes)
    assert Role.PEER.covers(Role.MEMBER)
    assert not Role.KEYHOLDER.covers(Role.MEMBER)


class Ended(Exception):  # noqa: N818
    pass


class Context:
    """A caller's context; `abort` raises what it was told."""

    def __init__(self, tls: bool, token: str | None = None) -> None:
        self._tls = tls
        self._metadata = [("authorization", f"Bearer {token}")] if token else []

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"transport_security_type": [b"ssl" if self._tls else b"insecure"]}

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._metadata

    def abort(self, code: object, text: str) -> None:
        raise Ended(str(code))


INFER, DEPLOY = f"/{oip.INFERENCE}/ModelInfer", "/meshd.v1.AdminService/Deploy"
TOKENS = {"c": "client", "o": "operator", "p": "peer"}

CASES = [
    # (local role, over TLS, token, method) → how it ends; None is well.
    (Role.CLIENT, False, None, INFER, None),
    (Role.CLIENT, False, None, DEPLOY, "PERMISSION_DENIED"),
    (Role.CLIENT, False, "o", DEPLOY, "PERMISSION_DENIED"),
    (Role.OPERATOR, False, None, DEPLOY, None),
    (Role.OPERATOR, True, None, INFER, "UNAUTHENTICATED"),
    (Role.OPERATOR, True, "x", INFER, "UNAUTHENTICATED"),
    (Role.OPERATOR, True, "c", INFER, None),
    (Role.OPERATOR, True, "c", DEPLOY, "PERMISSION_DENIED"),
    (Role.CLIENT, True, "o", DEPLOY, None),
    (Role.PEER, False, None, DEPLOY, "PERMISSION_DENIED"),
    (Role.CLIENT, True, "p", INFER, "PERMISSION_DENIED"),
    (Role.OPERATOR, False, None, "/meshd.v1.AdminService/Unheard", "PERMISSION_DENIED"),
]


@pytest.mark.parametrize(("local", "tls", "token", "method", "ends"), CASES)
def test_the_gate_holds_to_the_table(local: Role, tls: bool, token: str | None, method: str, ends: str | None) -> None:
    gate = Gate(local, TOKENS.get)
    context = Context(tls, token)
    if ends is None:
        gate.check(method, context)  # type: ignore[arg-type]
    else:
        with pytest.raises(Ended, match=ends):
            gate.check(method, context)  # type: ignore[arg-type]

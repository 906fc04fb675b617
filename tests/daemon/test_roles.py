"""Every RPC method has a row, and the gate holds to it."""

import pytest

from meshd.daemon.services.roles import ROLES, Gate, Role
from meshd.v1 import admin_pb2
from meshd.wire import oip


def _every_method() -> list[str]:
    services = [oip.pool().FindServiceByName(name) for name in oip.SERVICES]
    services += admin_pb2.DESCRIPTOR.services_by_name.values()
    return [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]


def test_every_method_of_every_descriptor_has_a_role_and_no_row_is_left_over() -> None:
    assert sorted(ROLES) == sorted(_every_method())


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
TOKENS = {"c": "client", "o": "operator"}

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

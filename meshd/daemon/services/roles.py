"""Who may call what: one table over every RPC method, and the gate that asks it.

Rule 1: a method without a row answers nobody; a test walks every descriptor.
Rule 2: a unix socket's file mode and the loopback interface stand for the role of their server; a caller over TLS needs a
token (interceptors see no auth context, so the gate sits in the handlers).
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final, NoReturn

import grpc


class Role(IntEnum):
    """Greater may do all that smaller may."""

    CLIENT = 1
    """May infer, and look at what is served."""
    OPERATOR = 2
    """May change what is served and who may call."""


Verify = Callable[[str], str | None]
"""Bearer token → its role's name in lower case, or None for one that was never given out."""


def _all(service: str, role: Role, names: str) -> dict[str, Role]:
    return {f"/{service}/{name}": role for name in names.split()}


ROLES: Final[dict[str, Role]] = {
    **_all(
        "inference.GRPCInferenceService",
        Role.CLIENT,
        "ServerLive ServerReady ModelReady ServerMetadata ModelMetadata ModelInfer ModelStreamInfer ModelConfig"
        " ModelStatistics RepositoryIndex RepositoryModelLoad RepositoryModelUnload"
        " SystemSharedMemoryStatus SystemSharedMemoryRegister SystemSharedMemoryUnregister"
        " CudaSharedMemoryStatus CudaSharedMemoryRegister CudaSharedMemoryUnregister TraceSetting LogSettings",
    ),
    **_all("grpc.health.v1.Health", Role.CLIENT, "Check Watch"),
    **_all("grpc.reflection.v1.ServerReflection", Role.CLIENT, "ServerReflectionInfo"),
    **_all(
        "meshd.v1.AdminService",
        Role.OPERATOR,
        "GetStatus WatchStatus WatchEvents BeginPush PushBlob ListModels GetModel RemoveModel Deploy Retire Drain"
        " CreateToken ListTokens RemoveToken Diagnose",
    ),
}
"""Full method name → the least role that may call it."""


class Gate:
    """Checks each call of one server.

    Parameters
    ----------
    local : role of callers without TLS: they came through a unix socket or the loopback interface
    verify : see `Verify`; asked at every call, so that a removed token ends at once
    """

    def __init__(self, local: Role, verify: Verify) -> None:
        self._local, self._verify = local, verify

    def check(self, method: str, context: grpc.ServicerContext) -> None:
        """Let the call pass, or end it as UNAUTHENTICATED or PERMISSION_DENIED."""
        needed = ROLES.get(method)
        if needed is None:
            _refuse(context, grpc.StatusCode.PERMISSION_DENIED, f"{method}: nobody may call this")
        over_tls = b"ssl" in (context.auth_context().get("transport_security_type") or ())
        role = self._by_token(context) if over_tls else self._local
        if role < needed:
            text = f"{method} needs the role {needed.name.lower()}; the caller has {role.name.lower()}"
            _refuse(context, grpc.StatusCode.PERMISSION_DENIED, text)

    def _by_token(self, context: grpc.ServicerContext) -> Role:
        sent = [str(value) for key, value in context.invocation_metadata() if key == "authorization"]
        if len(sent) != 1 or not sent[0].startswith("Bearer "):
            text = "no bearer token; make one with: meshctl token create NAME --role client"
            _refuse(context, grpc.StatusCode.UNAUTHENTICATED, text)
        name = self._verify(sent[0].removeprefix("Bearer "))
        if name is None:
            _refuse(context, grpc.StatusCode.UNAUTHENTICATED, "this token is not known here, or was removed")
        return Role[name.upper()]


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort raises")

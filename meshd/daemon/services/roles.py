"""Who may say what: one table over every RPC method and every kind of frame between nodes, and the gate that asks it for RPCs.

Rule 1: a method or kind without a row answers nobody; a test walks every descriptor.
Rule 2: a unix socket's file mode and the loopback interface stand for the role of their server; a caller over TLS needs a
token (interceptors see no auth context, so the gate sits in the handlers).
Rule 3: what a frame's sender may say follows from the wire it came on, so no frame is looked up here. The seal proves a
keyholder and `core.reception` asks whether it is a member; a link is greeted only by a peer (`net.tls.Roster.check`). Each wire
has its own envelope and decoder: a kind of another wire is refused there and counted. Tests hold every row to it.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final, NoReturn

import grpc


class Role(Enum):
    """Who somebody is: (of which ladder, which step). On one ladder, higher may do all that lower may; the two never meet."""

    CLIENT = ("caller", 1)
    """May infer, and look at what is served."""
    OPERATOR = ("caller", 2)
    """May change what is served and who may call."""
    KEYHOLDER = ("node", 1)
    """Sealed a datagram with the mesh key: may ask to be let in. Whatever else it says changes nothing yet."""
    MEMBER = ("node", 2)
    """A keyholder whose handshake is done, heard in datagrams."""
    PEER = ("node", 3)
    """A member at the far end of a link, pinned by its public key."""

    def covers(self, needed: "Role") -> bool:
        """Whether this role is enough where `needed` is asked for."""
        (ladder, step), (needed_ladder, needed_step) = self.value, needed.value
        return ladder == needed_ladder and step >= needed_step


Verify = Callable[[str], str | None]
"""Bearer token → its role's name in lower case, or None for one that was never given out."""


def _all(service: str, role: Role, names: str) -> dict[str, Role]:
    return {f"/{service}/{name}": role for name in names.split()}


def _kinds(envelope: str, role: Role, names: str) -> dict[str, Role]:
    return {f"meshd.v1.{envelope}.{name}": role for name in names.split()}


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
    **_kinds("GossipMessage", Role.KEYHOLDER, "join join_ack join_done"),
    **_kinds(
        "GossipMessage",
        Role.MEMBER,
        "ping ack ping_req ping_req_ack nack spread certificate_ask certificate_tell facts_ask",
    ),
    **_kinds(
        "LinkMessage",
        Role.PEER,
        "sync_root sync_buckets sync_digests sync_items offer bid decline award accept reject intent_ask intent_tell",
    ),
    **_kinds("DataHeader", Role.PEER, "hello forward ack busy not_held cancel lost answer failed echo_ask echo"),
    **_kinds("BulkHeader", Role.PEER, "hello ask head chunk missing"),
}
"""Full method name, or full name of an envelope's field → the least role that may say it."""


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
        if not role.covers(needed):
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

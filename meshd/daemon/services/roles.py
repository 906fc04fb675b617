"""Who may say what: one table over every RPC method and every kind of frame between nodes, and the gate that asks it for RPCs.

Rule 1: a method or kind without a row answers nobody; a test walks every descriptor.
Rule 2: a unix socket's file mode and the loopback interface stand for the role of their server; a caller over TLS needs a
token (interceptors see no auth context, so the gate sits in the handlers).
Rule 3: what a frame's sender may say follows from the wire it came on, so no frame is looked up here. The seal proves a
keyholder and `core.reception` asks whether it is a member; a link is greeted only by a peer (`net.tls.Roster.check`). Each wire
has its own envelope and decoder: a kind of another wire is refused there and counted. Tests hold every row to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

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
    **_kinds("DataHeader", Role.PEER, "hello forward ack busy not_held cancel lost answer failed echo_ask echo poison"),
    **_kinds("BulkHeader", Role.PEER, "hello ask head chunk missing"),
}
"""Full method name, or full name of an envelope's field → the least role that may say it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call may not pass."""

    is_known: bool
    """False: nobody knows who calls (401, UNAUTHENTICATED); True: who calls may not (403, PERMISSION_DENIED)."""
    text: str


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
        """Let a gRPC call pass, or end it as UNAUTHENTICATED or PERMISSION_DENIED."""
        over_tls = b"ssl" in (context.auth_context().get("transport_security_type") or ())
        sent = [str(value) for key, value in context.invocation_metadata() if key == "authorization"]
        if refusal := self.refusal(method, over_tls, sent):
            code = grpc.StatusCode.PERMISSION_DENIED if refusal.is_known else grpc.StatusCode.UNAUTHENTICATED
            context.abort(code, refusal.text)
            raise AssertionError("abort raises")

    def refusal(self, method: str, over_tls: bool, authorization: Sequence[str]) -> Refusal | None:
        """Why a call may not pass, whatever it came by; None where it may.

        Parameters
        ----------
        method : a row of `ROLES`
        authorization : every header of that name
        """
        needed = ROLES.get(method)
        if needed is None:
            return Refusal(True, f"{method}: nobody may call this")
        role = self._by_token(authorization) if over_tls else self._local
        if isinstance(role, Refusal):
            return role
        if not role.covers(needed):
            return Refusal(True, f"{method} needs the role {needed.name.lower()}; the caller has {role.name.lower()}")
        return None

    def _by_token(self, sent: Sequence[str]) -> Role | Refusal:
        if len(sent) != 1 or not sent[0].startswith("Bearer "):
            return Refusal(False, "no bearer token; make one with: meshctl token create NAME --role client")
        name = self._verify(sent[0].removeprefix("Bearer "))
        if name is None:
            return Refusal(False, "this token is not known here, or was removed")
        return Role[name.upper()]

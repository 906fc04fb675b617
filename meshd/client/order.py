"""An order to serve a model, and waiting until the mesh does. No NumPy here: `meshctl deploy` starts fast."""

import time
from collections.abc import Callable

from meshd.client.admin import Admin
from meshd.errors import UnavailableError
from meshd.v1 import admin_pb2 as pb
from meshd.v1.gossip_pb2 import MEMBER_STATE_ALIVE

PATIENCE_S = 10.0
"""A problem may pass (a node still measures itself); one that stays this long is the answer."""

Say = Callable[[str], object]


def order(
    admin: Admin, name: str, model: str, policy: pb.DeployPolicy, timeout_s: float, say: Say, wait: bool = True
) -> pb.DeploymentStatus:
    """Serve `model` under `name`.

    Parameters
    ----------
    say : is told what happens, in words for people
    wait : until it is served, or not with the time up or with one problem that stayed for `PATIENCE_S` (see `serves`)

    Returns
    -------
    The deployment as the node sees it.
    """
    before = max((d.generation for d in admin.status().deployments if d.name == name), default=0)
    say(admin.deploy(name, model, policy, timeout_s) or f"{name}: the order is kept")
    return _served(admin, name, before, timeout_s, say) if wait else _ordered(admin.status(), name, before)


def serves(found: pb.DeploymentStatus) -> bool:
    """Whether a plan of what was ordered last is served in all its segments."""
    plan = found.serving
    return (
        found.HasField("serving")
        and plan.generation == found.generation
        and all(part.candidates for part in plan.segments)
    )


def _served(admin: Admin, name: str, before: int, timeout_s: float, say: Say) -> pb.DeploymentStatus:
    until, problem, since = time.monotonic() + timeout_s, "", time.monotonic()
    while True:
        left_s = until - time.monotonic()
        try:
            status = admin.wait(lambda s: serves(_ordered(s, name, before)), max(min(1.0, left_s), 0.1), name)
        except UnavailableError:
            status = admin.status()
        now, found = time.monotonic(), _ordered(status, name, before)
        if serves(found):
            return found
        if found.problem != problem:
            problem, since = found.problem, now
            if problem:
                say(f"{name}: {problem}")
        if _measuring(status):
            since = now
        if now >= until or (problem and now - since >= PATIENCE_S):
            return found


def _ordered(status: pb.Status, name: str, before: int) -> pb.DeploymentStatus:
    """The deployment past generation `before`; an empty one until the order is seen."""
    for each in status.deployments:
        if each.name == name and each.generation > before:
            return each
    return pb.DeploymentStatus(name=name)


def _measuring(status: pb.Status) -> bool:
    """Whether a live node has not said yet what it offers: a first start compiles and times kernels for a while."""
    return any(node.state == MEMBER_STATE_ALIVE and not node.memory_bytes for node in status.nodes)

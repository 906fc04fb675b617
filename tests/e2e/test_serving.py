"""Three real daemons serve a small model: split in two, answered alike everywhere, a killed owner costs nothing, and a mesh
that lost its power comes back with what it served."""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from meshd.client.inference import Inference
from meshd.errors import DeniedError, UnavailableError
from meshd.net.key import MeshKey
from meshd.v1 import admin_pb2 as pb
from tests.daemon.models import small_bundle
from tests.e2e.daemons import Daemon, cache_with_rates

BUNDLE = small_bundle()
X = (np.arange(24, dtype=np.float32) / 8 - 1).reshape(3, 8)
SERVED_S = 60.0


def expected(x: np.ndarray) -> np.ndarray:
    w = [np.arange(64, dtype=np.float32).reshape(8, 8) + n for n in (0, 1)]
    return np.maximum(x @ w[0], 0) @ w[1]  # type: ignore[no-any-return]


def copies(status: pb.Status) -> int:
    """READY copies of the segment that has fewest; 0 while nothing serves."""
    for each in status.deployments:
        if each.HasField("serving") and each.serving.generation == each.generation:
            return min(len(part.candidates) for part in each.serving.segments)
    return 0


class Mesh:
    """Three daemons of one key, found by seed."""

    def __init__(self, folder: Path, cache: Path, stack: ExitStack) -> None:
        MeshKey.new().save(folder / "mesh.key")
        flags = {"mesh_key": str(folder / "mesh.key"), "discovery": "false"}
        first = stack.enter_context(Daemon(folder / "a", cache, **flags)).ready()
        seed = first.address("gossip")
        rest = [stack.enter_context(Daemon(folder / name, cache, **flags, seeds=seed)) for name in "bc"]
        self.daemons = [first, *rest]
        for daemon in self.daemons:
            daemon.ready()
            daemon.wait_nodes(3)

    def deploy(self) -> pb.Status:
        with self.daemons[0].admin() as admin:
            admin.push(BUNDLE.topology, BUNDLE.blobs)
            admin.deploy("small", BUNDLE.digest, pb.DeployPolicy(segments_min=2, replicas=2))
            return admin.wait(lambda status: copies(status) >= 2, SERVED_S, "two copies")

    def by_id(self, node: str) -> Daemon:
        for daemon in self.daemons:
            with daemon.admin() as admin:
                if admin.status().node_id == node:
                    return daemon
        raise AssertionError(node)


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with ExitStack() as stack:
        made = Mesh(tmp_path, cache_with_rates(tmp_path / "cache"), stack)
        try:
            yield made
        except BaseException:
            for daemon in made.daemons:
                print(f"== {daemon.name}\n{daemon.log()}")
            raise


def ask(daemon: Daemon, x: np.ndarray = X) -> np.ndarray:
    """Ask; a node that holds nothing fetches the model's description a moment after it heard of the deployment."""
    until = time.monotonic() + 10
    with Inference(f"unix:{daemon.folder}/run/client.sock") as inference:
        while True:
            try:
                return inference.infer("small", {"x": x}).outputs["y"]
            except UnavailableError as error:
                if "description" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.1)


def test_every_node_answers_alike_and_a_killed_owner_costs_nothing(mesh: Mesh) -> None:
    status = mesh.deploy()
    for daemon in mesh.daemons:
        with daemon.admin() as admin:
            admin.wait(lambda status: copies(status) >= 2, SERVED_S, "two copies")
        np.testing.assert_allclose(ask(daemon), expected(X), rtol=1e-5)

    owner = mesh.by_id(status.deployments[0].serving.segments[-1].candidates[0])
    entry = next(daemon for daemon in mesh.daemons if daemon is not owner)
    wrong: list[str] = []
    answered = [0]
    stop = threading.Event()

    def work() -> None:
        with Inference(f"unix:{entry.folder}/run/client.sock") as inference:
            while not stop.is_set():
                got = inference.infer("small", {"x": X}).outputs["y"]
                answered[0] += 1
                if not np.allclose(got, expected(X), rtol=1e-5):
                    wrong.append(str(got))

    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(work) for _ in range(4)]
        time.sleep(1)
        before = answered[0]
        owner.kill()
        time.sleep(3)
        stop.set()
    for call in calls:
        call.result()  # Whatever a caller met is the failure to see.
    assert before > 0
    assert answered[0] > before
    assert wrong == []


def over_http(daemon: Daemon, token: str) -> int:
    """The status of one inference over HTTPS, the certificate checked."""
    context = ssl.create_default_context(cafile=str(daemon.folder / "identity.crt"))
    context.check_hostname = False  # The name is meshd, the address is not.
    host, _, port = daemon.address("http").rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=10, context=context)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 8], "data": X.tolist()}]}
    connection.request("POST", "/v2/models/small/infer", json.dumps(body), {"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    told = json.loads(response.read())
    connection.close()
    if response.status == 200:
        np.testing.assert_allclose(np.reshape(told["outputs"][0]["data"], (3, 8)), expected(X), rtol=1e-5)
    return response.status


def test_a_remote_client_needs_the_certificate_and_a_token(mesh: Mesh) -> None:
    mesh.deploy()
    daemon = mesh.daemons[0]
    where = daemon.address("grpc")
    certificate = (daemon.folder / "identity.crt").read_bytes()
    other = (mesh.daemons[1].folder / "identity.crt").read_bytes()
    with daemon.admin() as admin:
        secret = admin.create_token("laptop", "client")
    with Inference(where, secret, certificate) as inference:
        np.testing.assert_allclose(inference.infer("small", {"x": X}).outputs["y"], expected(X), rtol=1e-5)
    assert over_http(daemon, secret) == 200
    assert over_http(daemon, "meshd_" + "x" * 43) == 401
    for token in ("", "meshd_" + "x" * 43):
        with Inference(where, token, certificate) as inference, pytest.raises(DeniedError):
            inference.infer("small", {"x": X})
    for pinned in (other, None):
        with Inference(where, secret, pinned) as inference, pytest.raises(UnavailableError):
            inference.infer("small", {"x": X}, timeout_s=5)
    with daemon.admin() as admin:
        admin.remove_token("laptop")
    assert over_http(daemon, secret) == 401
    with Inference(where, secret, certificate) as inference, pytest.raises(DeniedError):
        inference.infer("small", {"x": X})


def test_a_mesh_that_lost_its_power_serves_again_what_it_served(mesh: Mesh) -> None:
    mesh.deploy()
    for daemon in mesh.daemons:
        daemon.kill()
    for daemon in mesh.daemons:
        daemon.start()
    for daemon in mesh.daemons:
        daemon.ready()
        with daemon.admin() as admin:
            status = admin.wait(lambda status: copies(status) >= 1, SERVED_S, "served again")
            assert status.deployments[0].generation == 1
        np.testing.assert_allclose(ask(daemon), expected(X), rtol=1e-5)


def test_a_node_that_is_told_to_stop_hands_over_first(mesh: Mesh) -> None:
    mesh.deploy()
    entry, leaving = mesh.daemons[0], mesh.daemons[1]
    began = time.monotonic()
    assert leaving.stop() == 0
    assert time.monotonic() - began < 12
    np.testing.assert_allclose(ask(entry), expected(X), rtol=1e-5)
    entry.wait_nodes(2, 5)

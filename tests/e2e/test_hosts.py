"""Real daemons on hosts of their own (network namespaces behind a lossy relay), as they run on a LAN: all interfaces, mDNS."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from meshd.client.inference import Inference
from meshd.net.key import MeshKey
from meshd.v1 import admin_pb2 as pb
from tests.daemon.models import small_bundle
from tests.e2e.hosts import Hosts
from tests.e2e.relay import Relay, needs_namespaces

BUNDLE = small_bundle()
X = (np.arange(24, dtype=np.float32) / 8 - 1).reshape(3, 8)
FOUND_S, SERVED_S = 30.0, 90.0

pytestmark = pytest.mark.e2e


def copies(status: pb.Status) -> int:
    """READY copies of the segment that has fewest; 0 while nothing serves."""
    return min(
        (
            len(part.candidates)
            for each in status.deployments
            for part in each.serving.segments
            if each.HasField("serving")
        ),
        default=0,
    )


@needs_namespaces
def test_hosts_find_each_other_by_mdns_and_lose_nothing_when_one_dies_under_load(tmp_path: Path) -> None:
    with Relay(3, seed=5) as relay, ExitStack() as stack:
        hosts = Hosts(relay, tmp_path, stack)
        daemons = [hosts.start(host) for host in (1, 2, 3)]
        for daemon in daemons:
            daemon.ready()
        for daemon in daemons:
            daemon.wait_nodes(3, FOUND_S)
        relay.weather(loss=0.05, delay_s=0.002, jitter_s=0.002)
        entry, nodes = daemons[0], {}
        for daemon in daemons:
            with daemon.admin() as admin:
                nodes[admin.status().node_id] = daemon
        with entry.admin() as admin:
            admin.push(BUNDLE.topology, BUNDLE.blobs)
            admin.deploy("small", BUNDLE.digest, pb.DeployPolicy(segments_min=2))
            status = admin.wait(lambda status: copies(status) >= 2, SERVED_S, "two copies")
        owners = [nodes[part.candidates[0]] for part in status.deployments[0].serving.segments]
        victim = next((owner for owner in owners if owner is not entry), daemons[1])

        answers: list[np.ndarray] = []
        stop = threading.Event()

        def work() -> None:
            with Inference(f"unix:{entry.folder}/run/client.sock") as inference:
                while not stop.is_set():
                    answers.append(inference.infer("small", {"x": X}).outputs["y"])

        with ThreadPoolExecutor(4) as callers:
            calls = [callers.submit(work) for _ in range(4)]
            time.sleep(1)
            before = len(answers)
            victim.kill()
            time.sleep(4)
            stop.set()
        for call in calls:
            call.result()  # Whatever a caller met is the failure to see.
        assert 0 < before < len(answers)
        assert all((answer == answers[0]).all() for answer in answers)
        relay.happened("lost", "delayed")


@needs_namespaces
def test_hosts_with_another_key_or_none_stay_out_and_one_without_multicast_joins_by_seed(tmp_path: Path) -> None:
    with Relay(5, seed=6) as relay, ExitStack() as stack:
        hosts = Hosts(relay, tmp_path, stack)
        MeshKey.new().save(tmp_path / "other.key")
        relay.block_multicast(4)
        one, two, other = hosts.start(1), hosts.start(2), hosts.start(3, key="other.key")
        seed = f"{relay.address(1)}:7946"
        far = hosts.start(4, seeds=seed)
        none = hosts.start(5, key="there-is-none", seeds=seed)
        for daemon in (one, two, other, far, none):
            daemon.ready()
        for daemon in (one, two, far):
            daemon.wait_nodes(3, FOUND_S)
        strangers = set()
        for daemon in (other, none):
            with daemon.admin() as admin:
                assert len(admin.status().nodes) == 1
                strangers.add(admin.status().node_id)
        with one.admin() as admin:
            assert not strangers & {node.id for node in admin.status().nodes}
        relay.happened("multicast_cut")


@needs_namespaces
def test_a_pair_that_tcp_does_not_join_keeps_nobody_from_being_served(tmp_path: Path) -> None:
    with Relay(3, seed=7) as relay, ExitStack() as stack:
        hosts = Hosts(relay, tmp_path, stack)
        relay.block_tcp(2, 3)
        daemons = [hosts.start(host) for host in (1, 2, 3)]
        for daemon in daemons:
            daemon.ready()
        for daemon in daemons:
            daemon.wait_nodes(3, FOUND_S)
        with daemons[0].admin() as admin:
            admin.push(BUNDLE.topology, BUNDLE.blobs)
            admin.deploy("small", BUNDLE.digest, pb.DeployPolicy(segments_min=2))
            admin.wait(lambda status: copies(status) >= 1, SERVED_S, "served")
            told = Inference(f"unix:{daemons[0].folder}/run/client.sock").infer("small", {"x": X})
        assert told.outputs["y"].shape == (3, 8)
        relay.happened("tcp_cut")

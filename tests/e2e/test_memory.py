"""Nobody says how to split: nodes too small for a model find it out from what each can hold."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from meshd.client.inference import Inference
from meshd.model import cuts
from meshd.model.bundle import read_topology
from meshd.net.key import MeshKey
from meshd.v1 import admin_pb2 as pb
from tests.daemon.models import chain_bundle
from tests.e2e.daemons import Daemon, cache_with_rates

GROUPS = (0.20, 0.45, 0.35)
"""Share of the model's weight in each group of layers."""
BUDGET = 0.6
"""Share of the model that one node can hold."""
WIDTH = 256
ROWS = 4_000


def test_nodes_with_room_for_sixty_per_cent_split_the_model_by_themselves(tmp_path: Path) -> None:
    # Two layers a group, WIDTH -> rows -> WIDTH, so that a group weighs 2 x WIDTH x rows and a cut may fall inside it.
    widths = [WIDTH, *(w for share in GROUPS for w in (int(share * ROWS), WIDTH))]
    bundle, truth = chain_bundle(widths)
    resident = sum(layer.resident_bytes for layer in cuts.costs(read_topology(bundle.topology)))
    MeshKey.new().save(tmp_path / "mesh.key")
    flags = {"mesh_key": str(tmp_path / "mesh.key"), "memory_max": str(int(BUDGET * resident))}
    cache = cache_with_rates(tmp_path / "cache")
    with ExitStack() as stack:
        daemons = [stack.enter_context(Daemon(tmp_path / name, cache, **flags)) for name in "abcd"]
        for daemon in daemons:
            daemon.ready()
            daemon.wait_nodes(4)
        with daemons[0].admin() as admin:
            admin.push(bundle.topology, bundle.blobs)
            admin.deploy("chain", bundle.digest, pb.DeployPolicy(replicas=2))
            status = admin.wait(_two_copies, 60, "two copies of every segment")
        (deployment,) = status.deployments
        assert len(deployment.serving.segments) >= 2
        for segment in deployment.serving.segments:
            assert len(set(segment.candidates)) >= 2
        x = np.linspace(-1, 1, WIDTH, dtype=np.float32).reshape(1, WIDTH)
        for daemon in daemons:
            with Inference(f"unix:{daemon.folder}/run/client.sock") as inference:
                np.testing.assert_allclose(
                    inference.infer("chain", {"x": x}).outputs["y"], truth(x), rtol=1e-4, atol=1e-4
                )


def _two_copies(status: pb.Status) -> bool:
    for each in status.deployments:
        if each.HasField("serving"):
            return all(len(part.candidates) >= 2 for part in each.serving.segments)
    return False

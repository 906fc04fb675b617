"""`client.deploy` where there is a mesh: what it gives back is answered by a real daemon."""

from pathlib import Path

import numpy as np
import pytest

from meshd import client
from meshd.errors import UnavailableError
from tests.client.doubling import write
from tests.e2e.daemons import Daemon, cache_with_rates


def test_a_model_is_answered_by_the_mesh_as_long_as_there_is_one(tmp_path: Path) -> None:
    path = write(tmp_path / "double.onnx")
    with Daemon(tmp_path / "n", cache_with_rates(tmp_path / "cache")) as daemon:
        daemon.ready()
        with client.deploy(path, socket=str(daemon.socket)) as deployed:
            assert (deployed.on_mesh, deployed.name) == (True, "double")
            assert np.array_equal(deployed(np.ones((3, 8))), np.full((3, 8), 2, np.float32))
        assert daemon.stop() == 0
    with pytest.raises(UnavailableError, match="no daemon here"):
        client.deploy(path, socket=str(daemon.socket))

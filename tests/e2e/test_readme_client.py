"""The README's client examples, run as printed but for the address, the certificate's path and the token."""

import re
import subprocess
import sys
from pathlib import Path

from meshd.demo import model
from meshd.net.key import MeshKey
from meshd.v1 import admin_pb2 as pb
from tests.e2e.daemons import Daemon, cache_with_rates

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_clients_call_a_node_over_tls_with_a_token_as_the_readme_shows(tmp_path: Path) -> None:
    codes = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    remote = [code for code in codes if "192.168.1.20" in code]
    assert ["tritonclient" in code for code in remote] == [True, False]
    demo = model.load()
    MeshKey.new().save(tmp_path / "mesh.key")
    with Daemon(tmp_path / "n", cache_with_rates(tmp_path / "cache"), mesh_key=str(tmp_path / "mesh.key")) as daemon:
        daemon.ready()
        with daemon.admin() as admin:
            digest = admin.push(demo.bundle.topology, demo.bundle.blobs)
            admin.deploy("classifier", digest, pb.DeployPolicy(), 60)
            admin.wait(lambda status: status.deployments[0].HasField("serving"), 60, "served")
            secret = admin.create_token("phone", "client")
        real = {
            "192.168.1.20:8001": daemon.address("grpc"),
            '"identity.crt"': repr(str(daemon.folder / "identity.crt")),
            "SECRET": secret,
        }
        for printed_code in remote:
            code = printed_code
            for printed, here in real.items():
                assert code.count(printed) == 1, printed
                code = code.replace(printed, here)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, done.stderr
            assert len(re.findall(r"-?\d+\.\d+", done.stdout)) == 10
            refused = code.replace(secret, "meshd_wrong")
            done = subprocess.run(
                [sys.executable, "-c", refused], capture_output=True, text=True, check=False, timeout=60
            )
            assert re.search("UNAUTHENTICATED|DeniedError", done.stderr)

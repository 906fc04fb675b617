"""Write `meshd/v1` anew from `proto/meshd/v1`: `python -m tests.generate`."""

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    sources = sorted(str(p) for p in (ROOT / "proto/meshd/v1").glob("*.proto"))
    outs = [f"--{kind}_out={ROOT}" for kind in ("python", "pyi", "grpc_python")]
    code = int(protoc.main(["protoc", f"-I{ROOT / 'proto'}", *outs, *sources]))
    for stub in (ROOT / "meshd/v1").glob("*_pb2_grpc.py"):
        if "Servicer" not in stub.read_text():
            stub.unlink()  # A file without a service.
    return code


if __name__ == "__main__":
    sys.exit(main())

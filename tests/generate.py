"""Write what is generated from `proto` anew: `python -m tests.generate`.

`meshd/v1` from `proto/meshd/v1`, and `meshd/wire/oip.binpb`, the descriptor set of `proto/inference`.
"""

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    sources = sorted(str(p) for p in (ROOT / "proto/meshd/v1").glob("*.proto"))
    outs = [f"--{kind}_out={ROOT}" for kind in ("python", "pyi", "grpc_python")]
    code = int(protoc.main(["protoc", f"-I{ROOT / 'proto'}", *outs, *sources]))
    for stub in (ROOT / "meshd/v1").glob("*_pb2_grpc.py"):
        if "Servicer" not in stub.read_text():
            stub.unlink()  # A file without a service.
    return code or describe(ROOT / "meshd/wire/oip.binpb")


def describe(target: Path) -> int:
    """The descriptor set that `wire.oip` builds its private pool from."""
    sources = sorted(str(p) for p in (ROOT / "proto/inference").glob("*.proto"))
    known = Path(grpc_tools.__file__).parent / "_proto"
    return int(
        protoc.main(
            [
                "protoc",
                f"-I{ROOT / 'proto'}",
                f"-I{known}",
                "--include_imports",
                f"--descriptor_set_out={target}",
                *sources,
            ]
        )
    )


if __name__ == "__main__":
    sys.exit(main())

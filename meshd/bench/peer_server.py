"""MLServer with a model that does nothing, for `meshd bench serve --peers`. Stands alone: it runs in MLServer's own environment.

usage: python peer_server.py NAME GRPC_PORT; prints a line {"version": ...} once it is imported, serves until it is killed

The model is read and written by MLServer's own NumPy codec, as its runtimes do it (ONNX and scikit-learn models run behind
exactly this), and computes nothing: what is measured is the server. In its own process, without the hop to a worker that
MLServer would add: so it is fastest for a small model.
"""

import asyncio
import json
import socket
import sys
from typing import Any

import mlserver
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Nothing(MLModel):
    """Answers what it was given."""

    async def load(self) -> bool:
        """Nothing to load."""
        return True

    async def predict(self, payload: Any) -> Any:
        """See the class."""
        assert isinstance(payload, InferenceRequest)
        x = NumpyCodec.decode_input(payload.inputs[0])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", x)])


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


async def main() -> None:
    """Serve one model over gRPC."""
    name, port = sys.argv[1], int(sys.argv[2])
    settings = Settings(
        host="127.0.0.1", grpc_port=port, http_port=_free(), metrics_endpoint=None, parallel_workers=0, debug=False
    )
    server = MLServer(settings)
    print(json.dumps({"version": mlserver.__version__}), flush=True)
    await server.start([ModelSettings(name=name, implementation=Nothing)])


if __name__ == "__main__":
    asyncio.run(main())

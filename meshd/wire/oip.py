"""The Open Inference Protocol's messages, and health, reflection and error details, from a private descriptor pool.

Rule: nothing here enters protobuf's default pool, or `import tritonclient.grpc` fails in the same process (its generated
code defines the same names). Built from `oip.binpb`, which `python -m tests.generate` writes from `proto/inference`.
"""

from functools import cache
from importlib.resources import files
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

INFERENCE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"
REFLECTION: Final = "grpc.reflection.v1.ServerReflection"
NODES_LOST: Final = "meshd_nodes_lost"
"""Parameter of an answer whose request outlived the nodes it was on: how many vanished with it in hand."""
SERVICES: Final = (INFERENCE, HEALTH, REFLECTION)


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """The private pool."""
    described = descriptor_pb2.FileDescriptorSet.FromString(files("meshd.wire").joinpath("oip.binpb").read_bytes())
    made = descriptor_pool.DescriptorPool()
    for file in described.file:
        made.AddSerializedFile(file.SerializeToString())
    return made


@cache
def message(name: str) -> Any:
    """The class of a message by its full name, e.g. `inference.ModelMetadataRequest`."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


def methods(service: str) -> tuple[Any, ...]:
    """Descriptors of a service's methods."""
    return tuple(pool().FindServiceByName(service).methods)

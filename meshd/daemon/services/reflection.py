"""`grpc.reflection.v1.ServerReflection` from the private pool, so that grpcurl and its like need no .proto files."""

from collections.abc import Iterator
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from meshd.config import STREAMS_MAX
from meshd.daemon.services.roles import Gate
from meshd.wire import oip

QUESTIONS_MAX: Final = 256
"""A client asks for each file once; more in one stream is none of its business."""
NOT_FOUND: Final = grpc.StatusCode.NOT_FOUND.value[0]


def answer(data: bytes) -> bytes:
    """One question of a reflection stream. Raises DecodeError."""
    request = oip.message("grpc.reflection.v1.ServerReflectionRequest").FromString(data)
    response = oip.message("grpc.reflection.v1.ServerReflectionResponse")(
        valid_host=request.host, original_request=request
    )
    kind = request.WhichOneof("message_request")
    try:
        if kind == "list_services":
            for name in oip.SERVICES:
                response.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            _put_file(response, oip.pool().FindFileByName(request.file_by_filename))
        elif kind == "file_containing_symbol":
            _put_file(response, oip.pool().FindFileContainingSymbol(request.file_containing_symbol))
        else:
            response.error_response.error_code = grpc.StatusCode.UNIMPLEMENTED.value[0]
            response.error_response.error_message = "proto3 files have no extensions"
    except KeyError as error:
        response.error_response.error_code = NOT_FOUND
        response.error_response.error_message = str(error.args[0])
    return bytes(response.SerializeToString())


def _put_file(response: Any, file: Any) -> None:
    """The file and what it imports: a client need not ask again."""
    pending, done = [file], {}
    while pending:
        each = pending.pop()
        if each.name not in done:
            done[each.name] = each.serialized_pb
            pending += each.dependencies
    response.file_descriptor_response.file_descriptor_proto.extend(done.values())


def add_reflection(server: grpc.Server, gate: Gate) -> None:
    """Serve reflection on `server`. At most `STREAMS_MAX` streams share its threads with everything else."""
    path = f"/{oip.REFLECTION}/ServerReflectionInfo"
    open_streams: list[None] = []

    def info(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        gate.check(path, context)
        if len(open_streams) >= STREAMS_MAX:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{STREAMS_MAX} reflection streams are open; try later")
        open_streams.append(None)
        try:
            for asked, data in enumerate(requests):
                if asked >= QUESTIONS_MAX:
                    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"at most {QUESTIONS_MAX} questions a stream")
                try:
                    yield answer(data)
                except DecodeError:
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a ServerReflectionRequest")
        finally:
            open_streams.pop()

    handlers = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(info)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(oip.REFLECTION, handlers),))

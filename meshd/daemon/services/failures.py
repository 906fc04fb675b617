"""From failures to gRPC statuses, with google.rpc details in the `grpc-status-details-bin` trailer.

ErrorInfo names the reason, deployment, segment and node; RetryInfo says when trying again makes sense.
"""

from typing import Any, Final, NoReturn

import grpc

from meshd.core.journey.frames import Code, Failure, Reason
from meshd.daemon.services.tensors import NotSupportedError
from meshd.errors import InvalidError
from meshd.wire import oip

DOMAIN: Final = "meshd"
DETAILS_KEY: Final = "grpc-status-details-bin"
_STATUS: Final = {code.value[0]: code for code in grpc.StatusCode}


def of_invalid(error: InvalidError, deployment: str) -> Failure:
    """What a request that is not what it must be ends with."""
    supported = not isinstance(error, NotSupportedError)
    code = Code.INVALID_ARGUMENT if supported else Code.UNIMPLEMENTED
    reason = Reason.BAD_TENSOR if supported else Reason.NOT_SUPPORTED
    text = f"deployment {deployment!r}: {error}" if deployment else str(error)
    return Failure(code, reason, text, deployment)


def details(failure: Failure) -> bytes:
    """A serialised google.rpc.Status."""
    status = oip.message("google.rpc.Status")(code=int(failure.code), message=failure.message)
    known = {"deployment": failure.deployment, "node": failure.node}
    if failure.segment >= 0:
        known["segment"] = str(failure.segment)
    metadata = {key: value for key, value in known.items() if value}
    info = oip.message("google.rpc.ErrorInfo")(reason=failure.reason.value, domain=DOMAIN, metadata=metadata)
    _pack(status, info)
    if failure.retry_after_us:
        retry = oip.message("google.rpc.RetryInfo")()
        seconds, micros = divmod(failure.retry_after_us, 1_000_000)
        retry.retry_delay.seconds, retry.retry_delay.nanos = seconds, micros * 1000
        _pack(status, retry)
    return bytes(status.SerializeToString())


def _pack(status: Any, message: Any) -> None:
    status.details.add(
        type_url=f"type.googleapis.com/{message.DESCRIPTOR.full_name}", value=message.SerializeToString()
    )


def abort(context: grpc.ServicerContext, failure: Failure) -> NoReturn:
    """End the call with this failure."""
    context.set_trailing_metadata(((DETAILS_KEY, details(failure)),))
    context.abort(_STATUS[int(failure.code)], failure.message)
    raise AssertionError("abort raises")

"""meshd's errors as gRPC statuses, in one place for every service."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc

from meshd.errors import (
    ConflictError,
    DeniedError,
    InvalidError,
    MeshdError,
    MisuseError,
    NotFoundError,
    UnavailableError,
)

Method = TypeVar("Method", bound=Callable[..., Any])

_CODES: tuple[tuple[type[MeshdError], grpc.StatusCode], ...] = (
    (MisuseError, grpc.StatusCode.INVALID_ARGUMENT),
    (InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (DeniedError, grpc.StatusCode.PERMISSION_DENIED),
    (ConflictError, grpc.StatusCode.FAILED_PRECONDITION),
)


def code_of(error: MeshdError) -> grpc.StatusCode:
    """The status code of one of our errors."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def answers(method: Method) -> Method:
    """Let a unary handler raise our errors: the caller gets their text and code."""

    @functools.wraps(method)
    def wrapped(service: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(service, request, context)
        except MeshdError as error:
            context.abort(code_of(error), str(error))

    return wrapped  # type: ignore[return-value]


def streams(method: Method) -> Method:
    """The same for a handler that yields."""

    @functools.wraps(method)
    def wrapped(service: Any, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from method(service, request, context)
        except MeshdError as error:
            context.abort(code_of(error), str(error))

    return wrapped  # type: ignore[return-value]

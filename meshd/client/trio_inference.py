"""The same client for trio: a call is a gRPC future, so a waiting call holds no thread."""

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import grpc
import trio

from meshd.client import calls
from meshd.client.calls import WINDOW, Answer, Array, Methods, Progress, Signature
from meshd.client.nodes import Nodes, Round


class TrioInference:
    """See `inference.Inference`, whose methods these are; an async context manager.

    Cancellation cancels the call at the node too, which frees what it held there.
    """

    def __init__(
        self, targets: str | Sequence[str], token: str | Sequence[str] = "", root_certificates: bytes | None = None
    ) -> None:
        self._nodes = Nodes(targets)
        self._methods = Methods(self._nodes, token, root_certificates)

    async def __aenter__(self) -> "TrioInference":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._methods.close()

    async def describe(self, name: str, timeout_s: float = 10) -> Signature:
        """Inputs and outputs of a deployment."""
        return calls.read_signature(await self._call(self._methods.describe, calls.describe_request(name), timeout_s))

    async def infer(self, name: str, inputs: Mapping[str, Array], timeout_s: float = 30) -> Answer:
        """Run deployment `name`."""
        began_ns = time.monotonic_ns()
        told = await self._call(self._methods.infer, calls.infer_request(name, inputs), timeout_s)
        return calls.read_answer(told, (time.monotonic_ns() - began_ns) // 1000)

    @asynccontextmanager
    async def stream(
        self,
        name: str,
        inputs: Iterable[Mapping[str, Array]],
        timeout_s: float = 30,
        progress: Progress = lambda done: None,
    ) -> AsyncIterator[AsyncIterator[Answer]]:
        """`async with client.stream(...) as answers: async for answer in answers: ...`; leaving the block cancels the rest."""
        ordered, in_order = trio.open_memory_channel[trio.MemoryReceiveChannel[Answer]](WINDOW - 1)
        answered, answers = trio.open_memory_channel[Answer](0)

        async def one(item: Mapping[str, Array], into: trio.MemorySendChannel[Answer]) -> None:
            into.send_nowait(await self.infer(name, item, timeout_s))

        async def ask() -> None:
            async with ordered, trio.open_nursery() as nursery:
                for item in inputs:
                    into, out = trio.open_memory_channel[Answer](1)
                    await ordered.send(out)
                    nursery.start_soon(one, item, into)

        async def answer() -> None:
            async with answered:
                done = 0
                async for out in in_order:
                    found = await out.receive()
                    done += 1
                    progress(done)
                    await answered.send(found)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                nursery.start_soon(answer)
                async with answers:
                    yield answers
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            raise _alone(errors) from None

    async def _call(self, method: Sequence[Any], request: Any, timeout_s: float) -> Any:
        until_s = time.monotonic() + timeout_s
        tried = Round(self._nodes, until_s)
        while True:
            try:
                left_s = max(until_s - time.monotonic(), 0.001)
                call = method[tried.node].future(request, timeout=left_s, metadata=self._methods.metadata[tried.node])
                return await _result(call)
            except grpc.RpcError as error:
                await trio.sleep(calls.pause_after(error, tried))


async def _result(call: Any) -> Any:
    token, done = trio.lowlevel.current_trio_token(), trio.Event()

    def finished(_: Any) -> None:
        try:
            token.run_sync_soon(done.set)
        except trio.RunFinishedError:
            return  # Nobody waits any more.

    call.add_done_callback(finished)
    try:
        await done.wait()
    except trio.Cancelled:
        call.cancel()
        raise
    return call.result()


def _alone(errors: BaseException) -> BaseException:
    """The error a group is about, where it is about one."""
    while isinstance(errors, BaseExceptionGroup) and len(errors.exceptions) == 1:
        errors = errors.exceptions[0]
    return errors

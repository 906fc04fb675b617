"""Metrics in Prometheus' text format, over the least HTTP there is.

Own writer: the format is a dozen lines, and prometheus-client would be one more dependency on every device.

Rule 1: a request is one head of at most 4 KiB within 5 s, an answer and the end; at most 16 at once. Anything else is
counted and closed.
Rule 2: names and labels are fixed; no label takes a value that strangers choose.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import trio

from meshd.config import METRICS_CALLERS_MAX, METRICS_HEAD_BYTES_MAX

log = logging.getLogger(__name__)

HEAD_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One number. `kind` is `counter` or `gauge`; counters' names end in `_total`."""

    name: str
    value: float
    help: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Prometheus' type, from the name."""
        return "counter" if self.name.endswith("_total") else "gauge"


def text(samples: Iterable[Sample]) -> str:
    """Samples in the text format 0.0.4, those of one name together, in order of name."""
    lines: list[str] = []
    last = ""
    for sample in sorted(samples, key=lambda s: s.name):
        if sample.name != last:
            lines += [f"# HELP {sample.name} {sample.help}", f"# TYPE {sample.name} {sample.kind}"]
            last = sample.name
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(sample.labels.items()))
        lines.append(f"{sample.name}{'{' + labels + '}' if labels else ''} {sample.value:.17g}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class MetricsServer:
    """Serves what `collect` gives at GET /metrics."""

    def __init__(self, collect: Callable[[], Iterable[Sample]]) -> None:
        self._collect = collect
        self._callers = trio.CapacityLimiter(METRICS_CALLERS_MAX)
        self.refused = 0
        """Requests that were none."""

    async def serve(self, listener: trio.SocketListener) -> None:
        """Answer until cancelled."""
        await trio.serve_listeners(self._handle, [listener])

    async def _handle(self, stream: trio.SocketStream) -> None:
        if self._callers.available_tokens < 1:
            await stream.aclose()
            return
        async with self._callers, stream:
            try:
                with trio.move_on_after(HEAD_TIMEOUT_S):
                    await self._answer(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def _answer(self, stream: trio.SocketStream) -> None:
        head = bytearray()
        while b"\r\n\r\n" not in head:
            piece = await stream.receive_some(METRICS_HEAD_BYTES_MAX)
            head += piece
            if not piece or len(head) > METRICS_HEAD_BYTES_MAX or not b"GET ".startswith(bytes(head[:4])):
                self.refused += 1
                return
        path = bytes(head).split(b" ", 2)[1].split(b"?")[0]
        if path == b"/metrics":
            status, body, kind = "200 OK", text(self._collect()).encode(), "text/plain; version=0.0.4; charset=utf-8"
        else:
            status, body, kind = "404 Not Found", b"metrics are at /metrics\n", "text/plain; charset=utf-8"
        lines = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        await stream.send_all(lines.encode() + body)

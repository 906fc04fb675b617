"""Metrics for Prometheus at GET /metrics, as prometheus-client writes them, gathered on each scrape.

Rule 1: a registry of this daemon's own: nothing here is global to the process.
Rule 2: names and labels are fixed; no label takes a value that strangers choose.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


def make_app(gather: Callable[[], Iterable[Metric]]) -> Starlette:
    """The ASGI app that serves what `gather` gives, and what the kernel says of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gathered(gather))
    ProcessCollector(registry=registry)

    async def metrics(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": kind})

    async def elsewhere(request: Request, error: Exception) -> Response:
        return PlainTextResponse("metrics are at /metrics\n", 404)

    return Starlette(routes=[Route("/metrics", metrics)], exception_handlers={404: elsewhere})


class _Gathered(Collector):
    def __init__(self, gather: Callable[[], Iterable[Metric]]) -> None:
        self._gather = gather

    def collect(self) -> Iterator[Metric]:
        yield from self._gather()

    def describe(self) -> list[Metric]:
        # Nothing to look up before a scrape; without this the registry would gather while the daemon starts.
        return []

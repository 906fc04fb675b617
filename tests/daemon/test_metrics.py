"""Metrics answer a scrape, in the text Prometheus reads, and nothing else."""

import http.client
import socket
from collections import Counter
from types import SimpleNamespace
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from meshd.core.journey.frames import Spent
from meshd.daemon.metrics import make_app
from meshd.daemon.samples import samples
from meshd.dataplane.meters import PHASE_BOUNDS_US, Meters
from tests.daemon.pictures import view
from tests.daemon.webs import serving


def daemon() -> Any:
    """What `samples` reads of a supervisor."""
    meters = Meters()
    for took_us in (400, 500, 501, 20_000_000):
        meters.succeeded("m", 1, took_us * 1000, Spent(queue_us=100, compute_us=200), 0)
    board = SimpleNamespace(view=view())
    driver = SimpleNamespace(counts=Counter(steps=7), inbox=[1, 2])
    peers = SimpleNamespace(
        tallies=lambda: Counter(bytes_sent=900),
        refused=lambda: {"malformed": 3},
        link_counts=lambda: {("data", "refused_greeting"): 2},
    )
    plane = SimpleNamespace(
        counts=lambda: {"requests": 5, "in_flight": 1, "failed DEADLINE": 2, "answered": 3}, phases=meters.phases
    )
    servers = SimpleNamespace(refused=lambda: {"http": 1, "metrics": 0})
    return SimpleNamespace(board=board, driver=driver, peers=peers, plane=plane, servers=servers)


def scraped(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values...) → value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, *(value for _, value in sorted(sample.labels.items())))] = sample.value
    return found


def get(port: int, path: str, accept: str = "") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Accept": accept})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, response.headers["content-type"], text


def test_a_scrape_tells_what_each_room_counted() -> None:
    made = daemon()
    with serving(lambda: make_app(lambda: samples(made))) as (port, _):
        status, kind, text = get(port, "/metrics")
        assert get(port, "/other")[0] == 404
        assert get(port, "/metrics", "application/openmetrics-text; version=1.0.0")[1].startswith(
            "application/openmetrics"
        )
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    told = scraped(text)
    expected = {
        ("meshd_members", "alive"): 2, ("meshd_members", "suspect"): 1, ("meshd_segments_held", "ready"): 1,
        ("meshd_deployments",): 2, ("meshd_deployments_served",): 1, ("meshd_memory_budget_bytes",): 1 << 30,
        ("meshd_driver_steps_total",): 7, ("meshd_driver_inbox",): 2, ("meshd_gossip_total", "bytes_sent"): 900,
        ("meshd_gossip_refused_total", "malformed"): 3, ("meshd_links_total", "data", "refused_greeting"): 2,
        ("meshd_http_refused_total",): 1, ("meshd_metrics_refused_total",): 0, ("meshd_requests_requests_total",): 5,
        ("meshd_requests_in_flight",): 1, ("meshd_requests_failed_total", "DEADLINE"): 2,
    }  # fmt: skip
    assert {key: told.get(key) for key in expected} == expected
    assert told["process_resident_memory_bytes",] > 0


def test_latency_is_a_histogram_by_phase() -> None:
    made = daemon()
    with serving(lambda: make_app(lambda: samples(made))) as (port, _):
        told = scraped(get(port, "/metrics")[2])
    bucket = "meshd_request_seconds_bucket"
    assert [told[bucket, bound, "total"] for bound in ("0.0005", "0.001", "10.0", "+Inf")] == [2, 3, 3, 4]
    assert told["meshd_request_seconds_sum", "queue"] == 4 * 100e-6
    assert told["meshd_request_seconds_count", "compute"] == 4
    assert told["meshd_request_seconds_sum", "transit"] * 1e6 == 100 + 200 + 201 + 19_999_700
    assert sorted(PHASE_BOUNDS_US) == list(PHASE_BOUNDS_US)


def test_garbage_is_survived_and_nothing_is_global() -> None:
    before = set(REGISTRY._names_to_collectors)
    with serving(lambda: make_app(lambda: samples(daemon()))) as (port, _):
        for junk in (b"\x16\x03\x01" * 50, b"GET ", b"GET " + b"x" * 40_000, b"", b"POST /metrics HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), 5) as caller:
                caller.sendall(junk)
                caller.shutdown(socket.SHUT_WR)
                try:
                    while caller.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
        assert get(port, "/metrics")[0] == 200
    assert set(REGISTRY._names_to_collectors) == before

"""`meshd bench serve` measures what it says; how fast, an idle machine tells, not this test."""

from typing import Any

from meshd.bench import serve
from meshd.cli.meshd.bench_serve import _lines


def test_every_kind_of_call_is_answered_and_timed(monkeypatch: Any) -> None:
    monkeypatch.setattr(serve, "ROUNDS", dict.fromkeys(serve.ROUNDS, 3))
    monkeypatch.setattr(serve, "WARM", 2)
    report = serve.document(seconds=0.2)
    assert [row["bytes"] for row in report["latency"]] == list(serve.SIZES)
    for row in report["latency"]:
        assert set(row["ms"]) == {"echo", "local", "echo_tls", "frames_tls", "hop"}
        assert all(ms > 0 for ms in row["ms"].values())
        assert set(row["ratios"]) == set(row["limits"])
    assert report["throughput"]["local"] > 0
    assert len(list(_lines(report))) == len(serve.SIZES) + 2

"""`meshd bench serve` measures what it says; how fast, an idle machine tells, not this test."""

from typing import Any

from meshd.bench import serve
from meshd.bench.serve_peers import Peer
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
    assert report["peers"] == []
    assert len(list(_lines(report))) == len(serve.SIZES) + 2


def test_a_peer_is_asked_in_turn_with_us(monkeypatch: Any) -> None:
    monkeypatch.setattr(serve, "WARM", 1)
    asked: list[str] = []
    peer = Peer("other", "1", lambda: asked.append("theirs"))
    row = serve._beside(lambda: asked.append("ours"), peer, 0.04)
    assert asked[-4:] == ["ours", "theirs"] * 2
    assert row["ratio"] > 0
    assert row["ours_ms"] >= 0
    report = {"latency": [], "throughput": {"callers": 1, "bytes": 1, "echo": 1, "local": 1, "hop": 1, "ratio": 1}}
    assert "other 1, the same request" in list(_lines({**report, "peers": [row]}))[-1]

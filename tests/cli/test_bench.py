"""`meshctl bench` against a real server over a fake mesh: what it counts, not how fast."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from meshd.bench import deployment
from meshd.bench.deployment import Load
from meshd.cli.meshctl import main
from meshd.daemon.servers import listen_unix
from meshd.v1 import admin_pb2 as pb
from tests.client.entries import Entry
from tests.daemon.desks import FakeDaemon, fake_daemon
from tests.dataplane.fake_mesh import WIDTH

GOLDEN = Path(__file__).parent / "golden" / "bench.json"
VARIES = {"p50_us", "p90_us", "p99_us", "items_per_s", "joules_per_item"}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    path = tmp_path / "client.sock"
    listeners = [pb.Listener(role="client", address=str(path))]
    with Entry(also=lambda server: listen_unix(server, path)), fake_daemon(tmp_path, listeners=listeners) as made:
        yield made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Nine items, one of them with a wrong label; what is asked adds the same to all numbers, so the greatest stays."""
    x = np.eye(WIDTH, dtype=np.float32)[np.arange(9) % WIDTH]
    labels = np.arange(9) % WIDTH
    labels[2] = 7
    np.savez(tmp_path / "test.npz", x=x, labels=labels)
    return tmp_path / "test.npz"


def bench(daemon: FakeDaemon, *words: str) -> Result:
    environment = {"MESHD_SOCKET": str(daemon.socket)}
    return CliRunner().invoke(main, ["bench", "m", "--seconds", "0", *words], env=environment)


def steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "(varies)" if key in VARIES else steady(each) for key, each in value.items()}
    return value


def test_it_measures_and_judges_and_its_json_is_stable(
    daemon: FakeDaemon, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "IDLE_S", 0.05)
    result = bench(daemon, "--data", str(data), "--callers", "3", "--power-cmd", "echo 5", "-o", "json")
    assert result.exit_code == 0, result.output
    told = steady(json.loads(result.stdout))
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(told, indent=2) + "\n")
    assert told == json.loads(GOLDEN.read_text())


def test_batches_leave_out_what_fills_none_and_no_labels_is_said(
    daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.compress.energy.find", lambda command: (None, "powercap: none here"))
    np.savez(tmp_path / "bare.npz", anything=np.zeros((9, WIDTH), np.float32))
    words = ["--data", str(tmp_path / "bare.npz"), "--batch", "4"]
    told = json.loads(bench(daemon, *words, "-o", "json").stdout)
    assert (told["items"], told["latency"]["requests"], told["throughput"]["requests"]) == (9, 2, 2)
    assert told["accuracy"] == {"top1": None, "reason": "the data has no array 'labels'"}
    assert told["energy"]["joules_per_item"] is None
    table = bench(daemon, *words)
    assert "CALLERS" in table.stdout
    assert "energy    not known: powercap: none here" in table.stdout
    assert bench(daemon, "--data", str(tmp_path / "bare.npz"), "--batch", "10").exit_code == 2


def test_data_that_does_not_fit_and_models_that_are_not_there_are_said(daemon: FakeDaemon, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", x=np.zeros((9, WIDTH + 1), np.float32))
    result = bench(daemon, "--data", str(tmp_path / "odd.npz"))
    assert (result.exit_code, "has shape [9, 9]; the model takes float32" in result.stderr) == (1, True)
    environment = {"MESHD_SOCKET": str(daemon.socket)}
    missing = CliRunner().invoke(main, ["bench", "q", "--data", str(tmp_path / "odd.npz")], env=environment)
    assert missing.exit_code == 3


def test_percentiles_are_of_what_was_answered() -> None:
    told = Load(2, list(range(101)), failed=3, seconds=2.0).document(4)
    assert [told[key] for key in ("p50_us", "p90_us", "p99_us", "requests", "failed")] == [50, 90, 99, 101, 3]
    assert told["items_per_s"] == 202.0
    assert Load(1, [7], seconds=1.0).document(1)["p99_us"] == 7

"""`meshd demo` as a user runs it: four real daemons, an owner killed in mid-stream."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(240)
def test_the_demo_loses_nothing_and_says_so(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONWARNINGS": ""}
    words = [sys.executable, "-m", "meshd", "demo", "--keep", str(tmp_path / "demo"), "-o", "json"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=200, check=False)
    logs = "".join(f"\n== {p.parent.name}\n{p.read_text()[-2000:]}" for p in sorted((tmp_path / "demo").glob("n*/log")))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    report = json.loads(done.stdout)
    assert (report["apiVersion"], report["kind"], report["ok"]) == ("meshd/v1", "DemoReport", True)
    assert report["discovery_s"] <= 5
    assert len(report["plan"]["segments"]) >= 3
    assert all(segment["standbys"] for segment in report["plan"]["segments"])
    requests, failover = report["requests"], report["failover"]
    assert (requests["sent"], requests["answered"], requests["lost"], requests["wrong"]) == (300, 300, 0, 0)
    assert requests["in_flight_at_kill"] >= 8
    assert requests["on_killed"] >= 1
    assert failover["took_over"] != failover["killed"]
    # The demo itself fails when a request was held up by more than a second.
    assert failover["added_ms_max"] <= 1_000

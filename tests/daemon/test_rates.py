"""Rates come from the child's JSON, from its file the second time, and never keep a node from starting."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from meshd.daemon import rates
from meshd.daemon.device import machine, memory_budget_bytes, own_addresses
from meshd.daemon.rates import Measured, Measuring, parse
from meshd.engine import measure

KEPT = {"rates": {"dense": 2_000, "binary": 9_000}, "numeric": "fma"}


def test_what_the_child_prints_is_checked() -> None:
    assert parse(json.dumps(KEPT)) == Measured((("binary", 9_000), ("dense", 2_000)), "fma")
    for junk in ("", "{}", json.dumps({**KEPT, "rates": {"dense": -1}}), json.dumps({**KEPT, "rates": [1]})):
        with pytest.raises(ValueError, match=r"."):
            parse(junk)


def test_kept_rates_are_used_without_measuring(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text(json.dumps({"key": rates._key(), "forms": True, **KEPT}))
    probe = (
        "import sys; from pathlib import Path; from meshd.daemon.rates import main; main(Path(sys.argv[1]));"
        "assert 'numba' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", probe, str(tmp_path)], capture_output=True, text=True, check=True)
    assert parse(done.stdout).numeric == "fma"


def test_a_child_that_fails_leaves_a_node_without_rates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    measuring = Measuring(tmp_path)
    measuring._child.kill()
    assert trio.run(measuring.result) == Measured()
    assert "could not be measured" in caplog.text
    measuring.stop()


def test_a_memory_budget_is_as_asked_or_a_share_of_what_is_free(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900000 kB\nMemAvailable: 1000 kB\n")
    assert memory_budget_bytes(5, meminfo) == 5
    assert memory_budget_bytes(0, meminfo) == 614_400
    assert memory_budget_bytes(0, tmp_path / "none") > 0


def test_addresses_are_what_is_bound_or_never_none() -> None:
    assert [str(a) for a in own_addresses("127.0.0.1", 7, (), ())] == ["127.0.0.1:7"]
    assert [str(a) for a in own_addresses("", 7, ("nonesuch*",), ())] == ["127.0.0.1:7"]
    assert len(machine()) == 16


def test_forms_are_measured_once_and_after_the_rates_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told_before: list[str] = []
    monkeypatch.setattr(measure, "rates", lambda: measure.Rates({"dense": 2_000}, "fma"))
    monkeypatch.setattr(measure, "forms", lambda: told_before.append(capsys.readouterr().out))
    monkeypatch.setattr(rates.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(rates, "NICE", 0)
    for _ in range(2):
        rates.main(tmp_path)
    assert [parse(out) for out in told_before] == [Measured((("dense", 2_000),), "fma")]
    assert parse(capsys.readouterr().out) == Measured((("dense", 2_000),), "fma")

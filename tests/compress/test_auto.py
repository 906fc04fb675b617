"""`meshd compress auto`: the fastest model within an accuracy budget, or what is possible instead."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from meshd.cli.meshd.compress import command
from meshd.compress import auto, calibration, cost, layers, prune
from meshd.compress.device import Device
from meshd.compress.running import Runner
from meshd.errors import ConflictError, MisuseError
from meshd.model.onnx_import import import_model
from meshd.model.onnx_import.load import parse
from tests.compress import small

BOARD = Device("pi", {"dense": 1e6, "sparse": 1e6, "memory": 1e12, "steps": 1e12})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "LEVELS", (0.5, 0.8, 0.95))
    monkeypatch.setattr(auto, "TRIES", 4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The model, and data labelled by its own answers: it is right on all."""
    folder = tmp_path_factory.mktemp("auto")
    model, data = small.write(folder, count=200, labelled=False)
    with np.load(data) as file:
        x = file["x"]
    answers = Runner(parse(model.read_bytes())).all(calibration.Data((x,)))[0]
    np.savez(data, x=x, labels=answers.argmax(1))
    return model, data


def test_milliseconds_are_work_over_rate(files: tuple[Path, Path]) -> None:
    network = layers.Network(files[0])
    one = calibration.read(files[1], import_model(files[0])[0].inputs).some(0, 1)
    found = cost.milliseconds(network, one, BOARD, {})
    macs = {"a_node": 64 * 144, "b_node": 16 * 1152, "c_node": 144 * 32, "y_node": 160}
    for layer in network.layers:
        assert found.of(layer, None, 0.0) == pytest.approx(macs[layer.name] / 1e3)
        assert found.of(layer, None, 0.5) == pytest.approx(macs[layer.name] / 2e3)
    assert found.rest == pytest.approx(0.0, abs=0.01)


def test_a_budget_may_be_milliseconds_or_bytes(files: tuple[Path, Path], tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"
    rows = prune.prune(*files, made, prune.Wish(method="wanda", ms=20.0, device=BOARD))
    macs = {"a_node": 64 * 144, "b_node": 16 * 1152, "c_node": 144 * 32, "y_node": 160}
    assert sum(macs[r.name] * (1 - r.zeros / r.size) for r in rows) == pytest.approx(20_000, rel=0.03)
    rows = prune.prune(*files, made, prune.Wish(method="wanda", size_bytes=12_000))
    each = {"block4": 4 + 4 / 4, "block16": 4 + 4 / 16}
    held = sum((r.size - r.zeros) * each[r.pattern] if r.pattern else 4 * r.size for r in rows)
    assert held == pytest.approx(12_000, rel=0.02)
    with pytest.raises(ConflictError, match=r"ms on pi asked, .* is the least possible"):
        prune.prune(*files, made, prune.Wish(ms=0.5, device=BOARD))
    with pytest.raises(MisuseError, match="one budget"):
        prune.prune(*files, made, prune.Wish(ms=0.5, sparsity=0.5, device=BOARD))
    with pytest.raises(MisuseError, match="profile"):
        prune.prune(*files, made, prune.Wish(ms=0.5))


def test_it_is_faster_and_within_what_may_be_lost(files: tuple[Path, Path], tmp_path: Path) -> None:
    told: list[str] = []
    found = auto.auto(*files, tmp_path / "out.onnx", auto.Wish(BOARD, max_drop=10.0), told.append)
    assert found.drop <= 10.0
    assert found.ms < 30.0
    assert any(" lost" in line for line in told)
    assert not (tmp_path / "out.onnx.progress").exists()
    graph, _ = import_model(tmp_path / "out.onnx")
    assert any(w.structure.startswith("block") for w in graph.weights.values())


def test_more_loss_allows_more_speed(files: tuple[Path, Path], tmp_path: Path) -> None:
    strict, lax = (
        auto.auto(*files, tmp_path / "out.onnx", auto.Wish(BOARD, max_drop=drop)).ms for drop in (10.0, 60.0)
    )
    assert lax < strict


def test_a_target_reached_is_enough(files: tuple[Path, Path], tmp_path: Path) -> None:
    found = auto.auto(*files, tmp_path / "out.onnx", auto.Wish(BOARD, max_drop=60.0, target_ms=25.0))
    assert found.ms == 25.0


def test_what_cannot_be_had_says_what_can(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    with pytest.raises(ConflictError, match="least possible"):
        auto.auto(*files, out, auto.Wish(BOARD, target_ms=0.01))
    with pytest.raises(ConflictError, match=r"within 0.0 points only .* can be had on pi"):
        auto.auto(*files, out, auto.Wish(BOARD, max_drop=0.0, target_ms=6.0))
    assert not out.exists()


def test_layers_left_dense_become_int8_where_that_is_faster(files: tuple[Path, Path], tmp_path: Path) -> None:
    board = Device("npu", {**BOARD.rates, "int8": 1e8})
    found = auto.auto(*files, tmp_path / "out.onnx", auto.Wish(board, max_drop=60.0, target_ms=25.0))
    assert "y_node" in found.int8
    ops = {n.op_type for n in parse((tmp_path / "out.onnx").read_bytes()).graph.node}
    assert "QuantizeLinear" in ops


def test_the_command(files: tuple[Path, Path], tmp_path: Path) -> None:
    profile = tmp_path / "pi.json"
    profile.write_text(json.dumps({"rates": dict(BOARD.rates)}))
    words = ["auto", files[0], "--data", files[1], "--max-drop", "20", "--device", profile, "-o", tmp_path / "out.onnx"]
    done = CliRunner().invoke(command, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == 0
    assert "ms predicted on pi" in done.stdout

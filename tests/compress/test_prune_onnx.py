"""Pruning an ONNX file after training: patterns, budgets, reconstruction, resuming, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from meshd.cli.meshd.compress import command
from meshd.compress import calibration, layers, pattern, prune, reconstruction
from meshd.compress.moments import Moments, patches_of, rows_of
from meshd.compress.running import Runner
from meshd.errors import ConflictError, InvalidError, MisuseError
from meshd.model.onnx_import import import_model
from tests.compress import small
from tests.model.networks import model, node


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return small.write(tmp_path_factory.mktemp("small"))


def _wish(**more: Any) -> prune.Wish:
    return prune.Wish(**{"sparsity": 0.6, **more})


def _change(files: tuple[Path, Path], made: Path) -> float:
    network = layers.Network(files[0])
    data = calibration.read(files[1], import_model(files[0])[0].inputs)
    return prune.change(network.model, layers.Network(made).model, data, {})


def test_patches_times_weights_are_the_convolution(files: tuple[Path, Path]) -> None:
    network = layers.Network(files[0])
    data = calibration.read(files[1], import_model(files[0])[0].inputs).some(0, 3)
    for layer in network.layers:
        x, y = Runner(network.model, [layer.source, layer.out]).run(data)
        rows = rows_of(layer, x, 0)
        assert len(rows) == 3 * patches_of(layer, x.shape[1:])
        mine = rows @ network.weight(layer).T + network.constants[layer.bias]
        theirs = y.reshape(*y.shape[:2], -1).transpose(0, 2, 1).reshape(mine.shape)
        np.testing.assert_allclose(mine, theirs, atol=2e-5)
        assert np.array_equal(rows_of(layer, x, 0, step=2), rows[::2])
        assert np.array_equal(layer.stored(network.weight(layer)), network.constants[layer.weight])


def test_the_trace_of_one_row_is_brain_surgery_weight_by_weight() -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((200, 12)) @ rng.standard_normal((12, 12))).astype(np.float32)
    w = rng.standard_normal((1, 12)).astype(np.float32)
    moments = Moments(12, 1)
    moments.add(x, x @ w.T)
    problem = reconstruction.Problem(w, moments, 1e-9)
    costs = reconstruction.trace(problem, pattern.Pattern())[0]
    # The slow truth: at each step drop the weight without which a fresh fit errs least.
    kept = np.ones((1, 12), bool)
    for _ in range(11):
        errors = {}
        for p in np.flatnonzero(kept[0]):
            without = kept.copy()
            without[0, p] = False
            errors[p] = moments.error(problem.refit(pattern.Pattern(), without))
        worst = min(errors, key=errors.__getitem__)
        assert costs[worst] == costs[kept[0]].min()
        kept[0, worst] = False


def test_kept_weights_take_over_what_was_dropped(files: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {}
    for method in prune.METHODS:
        made = tmp_path / f"{method}.onnx"
        rows = prune.prune(*files, made, _wish(method=method))
        zeros, size = sum(r.zeros for r in rows), sum(r.size for r in rows)
        assert zeros / size == pytest.approx(0.6, abs=0.02)
        changes[method] = _change(files, made)
    assert changes["obs"] < 0.3 * changes["magnitude"]
    assert changes["obs"] < 0.3 * changes["wanda"]


@pytest.mark.parametrize(
    ("name", "found"), [("kernel", {"block4", "block16"}), ("unstructured", {"zeros"}), ("2:4", {"zeros"})]
)
def test_the_importer_finds_the_pattern_asked_for(
    files: tuple[Path, Path], tmp_path: Path, name: str, found: set[str]
) -> None:
    made = tmp_path / "made.onnx"
    prune.prune(*files, made, _wish(pattern=name, sparsity=0.45 if name == "2:4" else 0.8))
    graph, arrays = import_model(made)
    assert {w.structure for w in graph.weights.values() if w.structure} == found
    if name == "2:4":
        w = arrays["b.w"].reshape(16, 2, 4, 9)
        assert ((w != 0).sum(axis=2) <= 2).all()


def test_the_original_is_never_touched(files: tuple[Path, Path], tmp_path: Path) -> None:
    before = [p.read_bytes() for p in files]
    with pytest.raises(MisuseError, match="would overwrite what it is made from"):
        prune.prune(*files, files[0], _wish())
    with pytest.raises(MisuseError, match="would overwrite"):
        prune.prune(*files, files[1], _wish())
    with pytest.raises(MisuseError, match="make the folder"):
        prune.prune(*files, tmp_path / "none" / "out.onnx", _wish())
    assert [p.read_bytes() for p in files] == before


def test_a_target_past_what_is_possible_says_what_is(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match=r"at most 95\.\d%.*d_node|at most 9\d\.\d%"):
        prune.prune(*files, tmp_path / "out.onnx", _wish(sparsity=0.99))
    assert not (tmp_path / "out.onnx").exists()
    for bad in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(MisuseError, match="between 0 and 1"):
            prune.prune(*files, tmp_path / "out.onnx", _wish(sparsity=bad))
    with pytest.raises(MisuseError, match="no pattern"):
        prune.prune(*files, tmp_path / "out.onnx", _wish(pattern="circles"))


def test_a_model_without_weights_of_its_own_is_refused(tmp_path: Path, files: tuple[Path, Path]) -> None:
    path = tmp_path / "bare.onnx"
    path.write_bytes(model([node("Relu", ["x"], ["y"])], {"x": ["N", 4]}, ["y"]))
    with pytest.raises(InvalidError, match="nothing to compress"):
        prune.prune(path, files[1], tmp_path / "out.onnx", _wish())


def test_an_interrupted_run_resumes_and_ends_the_same(files: tuple[Path, Path], tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.onnx", tmp_path / "cut.onnx"
    prune.prune(*files, whole, _wish())
    told: list[str] = []

    def stop(line: str) -> None:
        told.append(line)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune.prune(*files, cut, _wish(), stop)
    assert not cut.exists()
    kept = sorted((tmp_path / "cut.onnx.progress").glob("*.npz"))
    assert len(kept) == 2
    stamps = [p.stat().st_mtime_ns for p in kept]
    kept[0].write_bytes(b"torn")  # A file the interruption spoiled is made again.

    def stop_late(line: str) -> None:
        told.append(line)
        if len(told) == 6:  # Two looks as kept, one more, and the first layer pruned.
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune.prune(*files, cut, _wish(), stop_late)
    assert [p.stat().st_mtime_ns for p in kept[1:]] == stamps[1:]
    prune.prune(*files, cut, _wish())
    assert cut.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "cut.onnx.progress").exists()


def test_what_depends_on_other_data_is_not_resumed(files: tuple[Path, Path], tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune.prune(*files, made, _wish(), stop)
    first = prune.Progress(made, list(files), {"prune": ["kernel", "obs", {}], "version": 1})
    assert list(first.folder.glob("*.npz"))
    other = prune.Progress(made, list(files), {"prune": ["kernel", "wanda", {}], "version": 1})
    assert not list(other.folder.glob("*.npz"))


def test_the_command_tells_each_layer(files: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["prune", str(files[0]), "--data", str(files[1]), "--sparsity", "0.6", "--method", "wanda"]
    done = CliRunner().invoke(command, [*words, "-o", str(tmp_path / "out.onnx")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "block16" in done.stdout
    assert done.stdout.splitlines()[-1].split()[:4] == ["all", "59.89%", "of", "6,064"]

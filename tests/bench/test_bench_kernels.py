"""`meshd bench kernels` says what it measured: documents of a stable shape, and a reason beside every low ratio."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from meshd.cli.meshd import main
from tests.kernels.driving import needs_numba

pytestmark = needs_numba


@pytest.fixture
def few(monkeypatch: Any) -> None:
    """Two small rows, short rounds, and limits that are known for no machine."""
    from meshd.bench import kernels, limits
    from meshd.kernels import forms

    monkeypatch.setattr(
        kernels, "CASES", tuple(c for c in kernels.CASES if c.name in {"binary.conv3x3", "dense.product.row"})
    )
    monkeypatch.setattr(limits, "ROUNDS", 3)
    monkeypatch.setattr(limits, "SIZES", (16_384, 16_384, 16_384, 16_384))
    monkeypatch.setattr(limits, "EXPECTED", {})
    monkeypatch.setattr(forms, "_rate", lambda name: 10.0 if name == forms.dense_of(name) else 2.0)
    monkeypatch.setattr(forms, "_path", lambda: None)


def test_the_document_has_limits_and_a_row_for_each_kernel(few: None) -> None:
    done = CliRunner().invoke(main, ["bench", "kernels", "-o", "json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["apiVersion"], found["kind"], found["doubts"], found["peers"]) == ("meshd/v1", "KernelBench", [], [])
    assert set(found["limits"]) == {
        "fma_gmac_s", "dot_gmac_s", "popcount_gbitmac_s", "l1_gb_s", "l2_gb_s", "l3_gb_s", "dram_gb_s",
    }  # fmt: skip
    assert [row["name"] for row in found["kernels"]] == ["binary.conv3x3", "dense.product.row"]
    for row in found["kernels"]:
        assert set(row) - {"why", "cold_us"} == {"name", "shape", "sparsity", "us", "rate", "limit", "unit", "ratio"}
        assert row["us"] > 0
        assert row["ratio"] == pytest.approx(row["rate"] / row["limit"], rel=0.05)
        assert row["ratio"] >= 0.6 or row["why"]
    assert "cold_us" in found["kernels"][1]


def test_limits_that_are_not_this_cpus_end_with_failure(few: None, monkeypatch: Any) -> None:
    from meshd.bench import limits
    from meshd.kernels.machine import this_machine

    monkeypatch.setattr(limits, "EXPECTED", {this_machine().cpu: {"fma": 1e9}})
    monkeypatch.setattr(limits, "KNOWN_BYTES", this_machine().register_bytes)
    done = CliRunner().invoke(main, ["bench", "kernels"])
    assert done.exit_code == 1
    assert "fma measured" in done.stderr


def test_break_even_names_every_form(few: None) -> None:
    done = CliRunner().invoke(main, ["bench", "kernels", "--break-even", "-o", "json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["kind"] == "BreakEven"
    assert {"product.1", "product.16.int8", "product.n:4", "conv.4.float16"} <= {
        form["form"] for form in found["forms"]
    }
    assert all((form["rate"], form["zeros"]) == (2.0, 0.8) for form in found["forms"])


def test_without_numba_there_is_nothing_to_measure(monkeypatch: Any) -> None:
    monkeypatch.setenv("MESHD_NUMBA", "0")
    done = CliRunner().invoke(main, ["bench", "kernels"])
    assert done.exit_code == 2
    assert "Numba" in done.stderr


def test_a_peer_that_is_installed_is_timed_beside_ours(few: None, monkeypatch: Any) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pytest.importorskip("flatbuffers")
    from meshd.bench import peer_program, peers

    small = [work for work in peers.works() if work.name.startswith("mlp")]
    monkeypatch.setattr(peers, "works", lambda: iter(small))
    monkeypatch.setattr(peer_program, "PEERS", {"onnxruntime": None, "nowhere": None})
    done = CliRunner().invoke(main, ["bench", "kernels", "--peers", "-o", "json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["peers"]
    assert (row["name"], row["work"]) == ("onnxruntime", small[0].name)
    assert row["ratio"] == pytest.approx(row["us"] / row["ours_us"], rel=0.02)
    assert row["ours_unstructured_us"] > 0


def test_a_sparse_perceptron_is_written_as_tensorflow_lite_has_it() -> None:
    """Read back by slots: LiteRT itself computes it as NumPy does (see peers.md), but is not needed here."""
    flatbuffers = pytest.importorskip("flatbuffers")
    import numpy as np

    from meshd.bench import tflite

    weight = np.zeros((8, 12), np.float32)
    weight[2, 4:8], weight[7, 0:4] = [1, 2, 3, 4], [5, 6, 7, 8]
    written = bytearray(tflite.perceptron([weight]))
    assert written[4:8] == b"TFL3"

    def at(place: int, slot: int) -> int:
        table = flatbuffers.table.Table(written, place)
        return table.Indirect(place + table.Offset(4 + 2 * slot))

    def ints(place: int) -> list[int]:
        return np.frombuffer(written, np.int32, np.frombuffer(written, np.int32, 1, place)[0], place + 4).tolist()

    root = flatbuffers.encode.Get(flatbuffers.packer.uoffset, written, 0)
    graph = at(root, 2) + 4
    graph += flatbuffers.encode.Get(flatbuffers.packer.uoffset, written, graph)
    tensors = at(graph, 0) + 4
    second = tensors + 4 + flatbuffers.encode.Get(flatbuffers.packer.uoffset, written, tensors + 4)
    assert ints(at(second, 0)) == [8, 12]
    sparsity = at(second, 6)
    dimensions = at(sparsity, 2) + 4
    columns = dimensions + 4 + flatbuffers.encode.Get(flatbuffers.packer.uoffset, written, dimensions + 4)
    assert ints(at(at(columns, 3), 0)) == [0, 0, 0, 1, 1, 1, 1, 1, 2]
    assert ints(at(at(columns, 5), 0)) == [1, 0]


def test_the_networks_of_the_comparison_compute_what_they_say() -> None:
    import numpy as np

    from meshd.bench import networks
    from meshd.kernels import reference

    made, (first, second, last) = networks.cnn(0.9, 4), networks.cnn_weights(0.9, 4)
    image = np.random.default_rng(0).standard_normal((1, 64, 56, 56)).astype(np.float32)
    made.kernels[0].input_layout.store(made.buffers[0], image)  # type: ignore[arg-type]
    made.run()
    hidden = np.maximum(reference.convolution(image, first, pads=(1, 1, 1, 1)), 0)
    mean = reference.convolution(hidden, second).mean((2, 3))
    np.testing.assert_allclose(made.buffers[-1], (mean @ last.T).ravel(), rtol=1e-3, atol=1e-4)

"""`meshd compress report`: models beside one another, in words, JSON and a picture."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from meshd.cli.meshd.compress import command
from meshd.compress import chart, device, energy, prune, report
from meshd.engine import threads
from meshd.errors import InvalidError, MisuseError, NotFoundError
from tests.compress import small


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "SPEND_S", 0.01)
    monkeypatch.setattr(threads, "_crew", [threads.Crew(1)])
    monkeypatch.setattr(energy, "find", lambda **_: (None, "none here"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("report")
    model, data = small.write(folder)
    prune.prune(model, data, folder / "pruned.onnx", prune.Wish(method="wanda", sparsity=0.8))
    return model, folder / "pruned.onnx", data


def _run(*words: object) -> Any:
    return CliRunner().invoke(command, ["report", *map(str, words)], catch_exceptions=False)


def test_the_document_says_what_was_counted(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    profile = tmp_path / "pi.json"
    profile.write_text(json.dumps({"rates": {"dense": 1e6, "sparse": 1e5, "memory": 1e12, "steps": 1e12}}))
    done = _run(*files[:2], "--data", files[2], "--device", profile, "-o", "json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["apiVersion"], told["kind"], told["items"]) == ("meshd/v1", "CompressReport", 120)
    first, second = told["models"]
    assert first["agreement"] == 1.0
    assert 0 < second["agreement"] < 1
    assert first["joules"] is None
    assert told["no_joules"] == "none here"
    assert sum(second["macs"].values()) < sum(first["macs"].values())
    assert second["macs"]["sparse"] > 0
    assert first["predicted_ms"]["pi"] == pytest.approx(first["macs"]["dense"] / 1e3, rel=1e-3)
    assert first["ms"] > 0


def test_people_get_a_table_and_a_picture(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    plot = tmp_path / "front.svg"
    done = _run(*files[:2], "--data", files[2], "--plot", plot)
    assert done.exit_code == 0
    assert "no joules: none here" in done.stdout
    texts = [t.text for t in ET.fromstring(plot.read_text()).iter("{http://www.w3.org/2000/svg}text")]
    assert {"model.onnx", "pruned.onnx", "milliseconds", "top1"} <= set(texts)


def test_a_meter_is_asked_for_each_model(files: tuple[Path, Path, Path]) -> None:
    meter = energy.Watts("fake", lambda: 3.0)
    found = report.report(files[:2], files[2], meter=meter)
    for row in found.rows:
        assert row.joules is not None
        assert 0.3 < row.joules / (3e-3 * row.ms) < 20  # The mean is not the median.


def test_metrics_count_what_they_say() -> None:
    answers = np.array([[9, 8, 0, 0, 0, 0], [0, 9, 8, 0, 0, 0], [9, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 1]])
    labels = np.array([0, 1, 0, 4])
    assert report.METRICS["top1"](answers, labels) == 0.75
    assert report.METRICS["top5"](answers, labels) == 0.75 + 0.25 * (4 in np.argsort(-answers[3], kind="stable")[:5])
    assert report.METRICS["balanced"](answers, labels) == pytest.approx(2 / 3)


def test_labels_that_do_not_fit_are_refused(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    x = np.zeros((2, 2, 8, 8), np.float32)
    np.savez(tmp_path / "wrong.npz", x=x, labels=np.array([0, 7]))
    with pytest.raises(InvalidError, match=r"labels reach from 0 to 7; .* classes 0 to 4"):
        report.report(files[:1], tmp_path / "wrong.npz")
    with pytest.raises(MisuseError, match="no metric"):
        report.report(files[:1], files[2], metric="luck")


def test_no_labels_no_score(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", x=np.random.default_rng(0).standard_normal((3, 2, 8, 8)).astype(np.float32))
    found = report.report(files[:2], tmp_path / "bare.npz")
    assert [r.score for r in found.rows] == [None, None]
    assert found.rows[1].agreement is not None


def test_only_what_nothing_beats_is_on_the_front() -> None:
    points = [("a", 1.0, 0.5), ("b", 2.0, 0.9), ("c", 3.0, 0.9), ("d", 1.0, 0.4), ("e", 4.0, 0.95)]
    assert [p[0] for p in chart.front(points)] == ["a", "b", "e"]


def test_profiles_are_checked(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        device.read(tmp_path / "none.json")
    for text in ("", "[]", '{"rates": {}}', '{"rates": {"dense": 0}}', '{"rates": {"dense": "x"}}', '{"rates": 3}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InvalidError):
            device.read(tmp_path / "bad.json")
    with pytest.raises(InvalidError, match="no rate of sparse"):
        device.Device("pi", {"dense": 1.0}).ms({"sparse": 1})

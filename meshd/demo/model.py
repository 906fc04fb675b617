"""The model that ships with meshd, and what it says of its sample when run in one piece on this machine."""

import json
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from meshd.demo.load import Sample
from meshd.engine.segment import compile_segment
from meshd.model import bundle, cuts, onnx_import

NAME = "fashion"
_TIMED_RUNS = 51


@dataclass(frozen=True, slots=True)
class DemoModel:
    """Ready to push and to judge by."""

    bundle: bundle.Bundle
    sample: Sample
    card: dict[str, Any]
    single_ms: float
    """One image through the whole model in this process, median."""

    def expected(self, requests: int) -> float:
        """Accuracy of the first `requests` answers if all are right (images repeat past the sample's end)."""
        truth = np.argmax(self.sample.truth, axis=1) == self.sample.labels
        return round(float(np.mean(np.resize(truth, requests))), 6)

    def as_card(self) -> bool:
        """The whole model, run here over the whole sample, is as accurate as its card says."""
        right = int(np.sum(np.argmax(self.sample.truth, axis=1) == self.sample.labels))
        return right == int(self.card["accuracy"]["sample"]["correct"])


def load() -> DemoModel:
    """Import the shipped ONNX file, compile it whole, run the sample through it."""
    folder = Path(str(files("meshd.demo")))
    graph, arrays = onnx_import.import_model(folder / "fashion.onnx")
    packed = bundle.pack(graph, arrays)
    with np.load(folder / "fashion_sample.npz", allow_pickle=False) as data:
        images = (data["images"].astype(np.float32) / 255.0).reshape(-1, 1, 28, 28)
        labels = data["labels"].astype(np.int64)
    graph = bundle.read_topology(packed.topology)
    whole = compile_segment(graph, 0, len(cuts.layers(graph)), packed.blobs.__getitem__)
    whole.warm()
    truth = np.concatenate([whole.run([images[i : i + 1]])[0] for i in range(len(images))])
    times = []
    for i in range(_TIMED_RUNS):
        began = time.perf_counter()
        whole.run([images[i : i + 1]])
        times.append((time.perf_counter() - began) * 1e3)
    card = json.loads((folder / "fashion.json").read_text())
    return DemoModel(packed, Sample(graph.inputs[0].name, images, labels, truth), card, median(times))

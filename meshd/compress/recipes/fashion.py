"""Fashion-MNIST: the demo's network, a chain with pruned and binary layers, trained from scratch.

``python -m meshd.compress.recipes.fashion --out DIR`` trains a dense teacher, then the student (started from it, pruned
while it trains, distilled), exports it, measures the exported file and writes ``fashion.onnx``, ``fashion_sample.npz``
and the card ``fashion.json``. About 20 minutes on two cores; interrupted runs resume from ``--cache``.

========  ==========================  ==============  =====================================================
layer     weights                     result          kind
========  ==========================  ==============  =====================================================
stem      3x3, 1 -> 32                32 x 28 x 28    dense; takes raw pixel / 255, then ReLU and pooling
sparse1   3x3, 32 -> 64               64 x 14 x 14    90 % zeros in blocks of 4 output channels
binary1   3x3, 64 -> 64               64 x 14 x 14    +-1 weights and activations
binary2   3x3, 64 -> 64               64 x 14 x 14    +-1 weights and activations, then ReLU and pooling
sparse2   3x3, 64 -> 128              128 x 7 x 7     90 % zeros in blocks of 4 output channels, ReLU
sparse3   1x1, 128 -> 128             128 x 7 x 7     90 % zeros in blocks of 4 output channels, ReLU
head      128 -> 10                   10              dense, after global average pooling
========  ==========================  ==============  =====================================================

Printed: teacher 9,328 and student 9,199 of the 10,000 test images right.

A chain without shortcuts on purpose: it can be cut after any layer, and in front of binary1 and binary2 only sign bits
cross. Data: Xiao et al., "Fashion-MNIST", 2017, MIT licence, Debian package ``dataset-fashion-mnist``.
"""

from __future__ import annotations

import argparse
import gzip
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from meshd.compress.recipes import card
from meshd.compress.recipes.fit import Training, count_correct, fit, settle_statistics
from meshd.compress.torch.binarize import BinaryConv2d, Sign, clip_latent_weights, start_latent_weights
from meshd.compress.torch.distill import distillation_loss
from meshd.compress.torch.export import keep_clear, to_onnx
from meshd.compress.torch.prune import BlockPruner

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
PRUNED = ("sparse1", "sparse2", "sparse3")
BINARY = ("binary1", "binary2")
SPARSITY = 0.9
SAMPLE_COUNT = 1_000
SETTLE_BATCHES = 20
BATCH = 128


def network(binary: bool) -> nn.Sequential:
    """Return the student, or with ``binary=False`` the dense teacher of the same shape."""

    def conv(inputs: int, outputs: int, size: int) -> nn.Module:
        return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)

    def middle(inputs: int, outputs: int) -> nn.Module:
        return BinaryConv2d(inputs, outputs, 3, padding=1) if binary else conv(inputs, outputs, 3)

    def activation() -> nn.Module:
        return Sign() if binary else nn.ReLU()

    layers = {
        "stem": conv(1, 32, 3),
        "stem_norm": nn.BatchNorm2d(32),
        "stem_relu": nn.ReLU(),
        "stem_pool": nn.MaxPool2d(2),
        "sparse1": conv(32, 64, 3),
        "sparse1_norm": nn.BatchNorm2d(64),
        "sign1": activation(),
        "binary1": middle(64, 64),
        "binary1_norm": nn.BatchNorm2d(64),
        "sign2": activation(),
        "binary2": middle(64, 64),
        "binary2_norm": nn.BatchNorm2d(64),
        "binary2_relu": nn.ReLU(),
        "binary2_pool": nn.MaxPool2d(2),
        "sparse2": conv(64, 128, 3),
        "sparse2_norm": nn.BatchNorm2d(128),
        "sparse2_relu": nn.ReLU(),
        "sparse3": conv(128, 128, 1),
        "sparse3_norm": nn.BatchNorm2d(128),
        "sparse3_relu": nn.ReLU(),
        "average": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "head": nn.Linear(128, 10),
    }
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model.to(memory_format=torch.channels_last)


def read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """Read one gzipped IDX file of unsigned bytes (LeCun's MNIST format).

    Raises
    ------
    FileNotFoundError, ValueError
        Saying which package to install, or what is wrong with the file.
    """
    path = folder / f"{name}.gz"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: install Debian's dataset-fashion-mnist, or point --data at its folder"
        )
    raw = gzip.decompress(path.read_bytes())
    axes = raw[3]
    if raw[:3] != b"\0\0\x08" or not 1 <= axes <= 3:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: fetch it again")
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes))
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * axes)
    if values.size != math.prod(shape):
        raise ValueError(f"{path} holds {values.size} values, not {math.prod(shape)}: fetch it again")
    return values.reshape(shape)


def read_set(folder: Path, prefix: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images, shape (count, 28, 28), and labels, shape (count,), of ``train`` or ``t10k``."""
    return read_idx(folder, f"{prefix}-images-idx3-ubyte"), read_idx(folder, f"{prefix}-labels-idx1-ubyte")


def as_input(images: Tensor) -> Tensor:
    """Turn uint8 images, shape (count, 28, 28), into the network's input: float32, shape (count, 1, 28, 28), in [0, 1]."""
    return (images.unsqueeze(1).float() / 255.0).contiguous(memory_format=torch.channels_last)


def shift_and_mirror(images: Tensor, random: torch.Generator) -> Tensor:
    """Return `as_input` of each image moved by up to two pixels each way, half of them mirrored."""
    count, rows, columns = images.shape
    padded = nn.functional.pad(images, (2, 2, 2, 2))
    down = torch.randint(0, 5, (count, 1), generator=random) + torch.arange(rows)
    right = torch.randint(0, 5, (count, 1), generator=random) + torch.arange(columns)
    mirrored = torch.rand(count, 1, generator=random) < 0.5
    right = torch.where(mirrored, right.flip(1), right)
    return as_input(padded[torch.arange(count).view(-1, 1, 1), down.unsqueeze(2), right.unsqueeze(1)])


def train_teacher(images: Tensor, labels: Tensor, training: Training, cache: Path) -> nn.Sequential:
    """Return the dense network, trained on the labels alone."""
    torch.manual_seed(training.seed)
    teacher = network(binary=False)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    fit(teacher, images, labels, training, loss, checkpoint=cache / "teacher.pt", augment=shift_and_mirror)
    return teacher.eval()


def train_student(
    teacher: nn.Sequential, images: Tensor, labels: Tensor, training: Training, cache: Path
) -> nn.Sequential:
    """Return the network with pruned and binary layers, started from the teacher and distilled from it."""
    torch.manual_seed(training.seed + 1)
    student = network(binary=True)
    student.load_state_dict(teacher.state_dict())
    for name in BINARY:
        layer = student.get_submodule(name)
        assert isinstance(layer, BinaryConv2d), f"{name} of the student is binary"
        start_latent_weights(layer, teacher.get_parameter(f"{name}.weight"))
    steps = training.steps(len(images))
    # Pruning moves in the cycle's fast part and is over at its middle: the other half heals with the masks held.
    pruner = BlockPruner({name: student.get_submodule(name) for name in PRUNED}, SPARSITY, steps // 20, steps // 2)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            answers = teacher(x)
        return distillation_loss(model(x), answers, y)

    def after_step(step: int) -> None:
        pruner.hold(step)
        clip_latent_weights(student)

    fit(
        student,
        images,
        labels,
        training,
        loss,
        checkpoint=cache / "student.pt",
        augment=shift_and_mirror,
        after_step=after_step,
        undecayed=lambda module: isinstance(module, BinaryConv2d),
    )
    return student.eval()


def finish(student: nn.Sequential, images: Tensor) -> None:
    """Settle the statistics in float32 and move sparse1's answer to a blank image clear of the sign's threshold."""
    settle_statistics(student, [as_input(part) for part in images[: SETTLE_BATCHES * 1_000].split(1_000)])
    norm = student.get_submodule("sparse1_norm")
    assert isinstance(norm, nn.BatchNorm2d), "sparse1 is followed by a BatchNorm2d"
    with torch.no_grad():
        before_sign = student[: list(student._modules).index("sign1")]
        moved = keep_clear(norm, before_sign(torch.zeros(1, 1, 28, 28)))
    print(f"sparse1: {moved} of 64 channels moved clear of zero on blank input")


def main(arguments: list[str] | None = None) -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description="Train the demo's Fashion-MNIST network and write it with its card.")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for fashion.onnx, fashion_sample.npz, fashion.json"
    )
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="the IDX files")
    parser.add_argument("--cache", type=Path, help="folder of checkpoints to resume from (default: OUT/cache)")
    parser.add_argument("--teacher-epochs", type=int, default=10)
    parser.add_argument("--student-epochs", type=int, default=18)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    cache: Path = options.cache or options.out / "cache"
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)

    images, labels = (torch.from_numpy(part.copy()) for part in read_set(options.data, "train"))
    test_images, test_labels = read_set(options.data, "t10k")
    labels = labels.long()
    test = as_input(torch.from_numpy(test_images.copy())), torch.from_numpy(test_labels.astype(np.int64))

    teacher = train_teacher(images, labels, Training(options.teacher_epochs, BATCH, 4e-3, 1e-2, options.seed), cache)
    teacher_correct = count_correct(teacher, *test)
    print(f"teacher: {teacher_correct} of {len(test_labels)} test images right")
    student = train_student(
        teacher, images, labels, Training(options.student_epochs, BATCH, 4e-3, 1e-2, options.seed + 1), cache
    )
    finish(student, images)
    print(f"student: {count_correct(student, *test)} of {len(test_labels)} test images right, in PyTorch")

    options.out.mkdir(parents=True, exist_ok=True)
    model = to_onnx(student, (1, 28, 28), name="fashion", input_name="image", output_name="logits")
    path = options.out / "fashion.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    card.write_sample(options.out / "fashion_sample.npz", test_images[:SAMPLE_COUNT], test_labels[:SAMPLE_COUNT])
    card.write(
        path,
        {
            "title": "Fashion-MNIST, ten kinds of clothing, with pruned and binary layers",
            "licence": "Apache-2.0",
            "data": {
                "name": "Fashion-MNIST",
                "licence": "MIT",
                "source": "Debian package dataset-fashion-mnist; https://github.com/zalandoresearch/fashion-mnist",
                "sample": "fashion_sample.npz: the first 1,000 images of the test set",
            },
            "classes": CLASSES,
            "recipe": {
                "command": "python -m meshd.compress.recipes.fashion --out DIR",
                "teacher_epochs": options.teacher_epochs,
                "student_epochs": options.student_epochs,
                "seed": options.seed,
                "teacher_correct": teacher_correct,
            },
        },
        test[0].numpy(),
        test_labels,
        SAMPLE_COUNT,
    )


if __name__ == "__main__":
    main()

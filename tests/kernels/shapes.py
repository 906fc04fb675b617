"""Random layers for fuzzing: a seed → a kernel of any family, odd sizes, any tail, with images for it."""

from typing import Any

import numpy as np

from meshd.kernels import registry
from meshd.kernels.kernel import Kernel, Tail
from meshd.kernels.layout import Bits, Layout, Octets, Planes

ODD = (1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 63, 64, 65, 129)


def random_tail(rng: Any, outputs: int) -> Tail:
    """Any mixture of steps."""
    scale, bias = rng.standard_normal((2, outputs)).astype(np.float32)
    return Tail(
        scale if rng.random() < 0.5 else None,
        bias if rng.random() < 0.5 else None,
        residual=bool(rng.random() < 0.3),
        low=-0.5 if rng.random() < 0.3 else -np.inf,
        high=6.0 if rng.random() < 0.3 else np.inf,
        bits=bool(rng.random() < 0.3),
    )


def random_layout(rng: Any, like: Layout) -> Layout:
    """A layout of the same shape and kind, with other pads."""
    top, left, more = (int(v) for v in rng.integers(0, 3, 3))
    if isinstance(like, Bits):
        return Bits(like.channels, like.height, like.width, top, left, more, like.width + left + more)
    sh, sw = ((1, 1), (1, 1), (2, 2), (1, 2), (2, 1))[rng.integers(5)]
    pitch = -(-(like.width + left + more) // sw)
    phase = (-(-(like.height + top + more) // sh)) * pitch
    plane = phase * sh * sw + int(rng.integers(0, 5))
    fill = float(rng.choice([0.0, -np.inf]))
    return Planes(
        like.channels, like.height, like.width, top, left, pitch, phase if sh * sw > 1 else plane, plane, (sh, sw), fill
    )


def random_kernel(seed: int) -> tuple[Kernel, Any, Any]:
    """(kernel, images, residual)."""
    rng = np.random.default_rng(seed)
    signs = bool(rng.random() < 0.4)
    zeros = float(rng.choice([0.0, 0.5, 0.9, 0.97]))
    block = int(rng.choice([1, 4, 8, 16]))
    if rng.random() < 0.35:
        outputs, k, rows = int(rng.choice(ODD)), int(rng.choice(ODD)), int(rng.choice([1, 2, 5, 6, 7, 13]))
        weight = _weight(rng, (outputs, k), zeros, block)
        kernel = registry.product(weight, tail=random_tail(rng, outputs), signs=signs)
        shape: tuple[int, ...] = (rows, outputs, 1, 1)
        images = rng.standard_normal((rows, k, 1, 1)).astype(np.float32)
        return kernel, images, rng.standard_normal(shape).astype(np.float32)
    groups = int(rng.choice([1, 1, 1, 2, 4]))
    inner, outputs = int(rng.choice([1, 3, 8, 33, 64, 65])), int(rng.choice([1, 3, 8, 17, 33])) * groups
    kh, kw = (int(v) for v in rng.choice([1, 2, 3, 5], 2))
    strides = tuple(int(v) for v in rng.choice([1, 1, 2, 3], 2))
    dilations = tuple(int(v) for v in rng.choice([1, 1, 2], 2))
    pads = tuple(int(v) for v in rng.integers(0, 3, 4))
    height = int(rng.choice([1, 2, 7, 9, 16, 17])) + max(0, dilations[0] * (kh - 1) + 1 - pads[0] - pads[2])
    width = int(rng.choice([1, 2, 7, 9, 31, 34])) + max(0, dilations[1] * (kw - 1) + 1 - pads[1] - pads[3])
    kernel = registry.convolution(
        _weight(rng, (outputs, inner, kh, kw), zeros, block), height, width, strides=strides, pads=pads,
        dilations=dilations, groups=groups, tail=random_tail(rng, outputs), signs=signs, pad_sign=int(rng.integers(2)),
    )  # type: ignore[arg-type]  # fmt: skip
    if rng.random() < 0.6:
        added = None if kernel.residual_layout is None else random_layout(rng, kernel.residual_layout)
        kernel.write_to(random_layout(rng, kernel.output_layout), added)
    images = rng.standard_normal((2, inner * groups, height, width)).astype(np.float32)
    to = kernel.output_layout
    return kernel, images, rng.standard_normal((2, to.channels, to.height, to.width)).astype(np.float32)


def random_move(seed: int) -> tuple[Kernel, Any]:
    """(kernel, images): a pooling, a conversion, or an int8 layer."""
    rng = np.random.default_rng(seed)
    channels, height, width = (
        int(rng.choice([1, 3, 64, 65])),
        int(rng.choice([1, 7, 9])),
        int(rng.choice([1, 5, 16, 17, 33])),
    )
    plain = Planes.plain(channels, height, width)
    octets = Octets(channels, height, width, *(int(v) for v in rng.integers(0, 2, 3)), width + 2, 0.02, 3)
    images = rng.standard_normal((2, channels, height, width)).astype(np.float32)
    choice = rng.integers(5)
    if choice == 0:
        window = tuple(int(min(v, size)) for v, size in zip(rng.integers(1, 4, 2), (height, width), strict=True))
        strides = tuple(int(v) for v in rng.integers(1, 4, 2))
        kind = "max" if rng.random() < 0.5 else "average"
        pads = tuple(int(v) for v in rng.integers(0, min(window), 4))
        kernel = registry.pool(kind, channels, height, width, window, strides=strides, pads=pads)  # type: ignore[arg-type]
        kernel.write_to(random_layout(rng, kernel.output_layout))
    elif choice == 1:
        kernel = registry.convert(random_layout(rng, plain), random_layout(rng, plain))
    elif choice == 2:
        kernel = registry.convert(random_layout(rng, plain), octets)
    elif choice == 3:
        source = Bits(channels, height, width, 1, 0, 1, width + 1) if rng.random() < 0.5 else octets
        kernel = registry.convert(source, random_layout(rng, plain))
    else:
        weight = rng.integers(-128, 128, (int(rng.choice([1, 17, 33, 64])), channels, 1, 1)).astype(np.int8)
        kernel = registry.convolution_int8(weight, octets, tail=Tail(np.full(len(weight), 1e-3, np.float32)))
        if rng.random() < 0.5:
            to = kernel.output_layout
            kernel.write_to(Octets(to.channels, to.height, to.width, 1, 1, 0, to.width + 1, 0.1, -5, True))
        else:
            kernel.write_to(random_layout(rng, kernel.output_layout))
    return kernel, images


def reference_of(seed: int, monkeypatch: Any) -> Kernel:
    """The same layer by the fallback, writing the same layouts."""
    with monkeypatch.context() as patch:
        patch.setenv("MESHD_NUMBA", "0")
        return random_kernel(seed)[0]


def _weight(rng: Any, shape: tuple[int, ...], zeros: float, block: int) -> Any:
    kept = rng.random((-(-shape[0] // block), *shape[1:])) >= zeros
    return rng.standard_normal(shape).astype(np.float32) * np.repeat(kept, block, axis=0)[: shape[0]]


__all__ = ["ODD", "random_kernel", "random_layout", "random_move", "random_tail", "reference_of"]

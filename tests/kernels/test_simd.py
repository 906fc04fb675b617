"""Every operation on blocks equals NumPy's, for lanes under, at and over the width of a register."""

from typing import Any

import numpy as np
import pytest

from tests.kernels.driving import needs_numba

pytestmark = needs_numba

LANES = (1, 2, 4, 8, 16, 32, 64)


def _floats(lanes: int) -> Any:
    from meshd.kernels import simd
    from meshd.kernels.jit import F4, U8, jit

    @jit(F4, F4, U8)
    def compute(x, out, masks):  # type: ignore[no-untyped-def]
        a, b = simd.load_rows(2, lanes, x, 1, lanes), simd.load(lanes, x, 1 + 2 * lanes)
        c = simd.splat(1, lanes, np.float32(1.5))
        simd.store_rows(out, 0, lanes, 2, simd.add(a, b))
        simd.store_rows(out, 2 * lanes, lanes, 2, simd.sub(a, b))
        simd.store_rows(out, 4 * lanes, lanes, 2, simd.mul(a, b))
        simd.store_rows(out, 6 * lanes, lanes, 2, simd.div(a, c))
        simd.store_rows(out, 8 * lanes, lanes, 2, simd.fma(a, b, c))
        simd.store_rows(out, 10 * lanes, lanes, 2, simd.minimum(a, b))
        simd.store_rows(out, 12 * lanes, lanes, 2, simd.maximum(a, b))
        simd.store_rows(out, 14 * lanes, lanes, 2, simd.greatest(a, b))
        simd.store_rows(out, 16 * lanes, lanes, 2, simd.select(simd.less(a, b), a, c))
        simd.store_rows(out, 18 * lanes, lanes, 2, simd.rint(a))
        simd.store_rows(out, 20 * lanes, lanes, 2, simd.column(2, lanes, x, 1, 3))
        simd.store_rows(out, 22 * lanes, lanes, 2, simd.rank1(a, x, 1, 3, b))
        simd.store_rows(out, 24 * lanes, lanes, 1, simd.load_every(lanes, 2, x, 1))
        simd.store_rows(out, 25 * lanes, lanes, 1, simd.load_first(1, lanes, x, 1, 0, lanes - 1))
        simd.store_first(out, 26 * lanes, lanes, lanes - 1, a)
        simd.scatter(out, 28 * lanes, 2, lanes - 1, b)
        simd.store(out, 30 * lanes, simd.gather(np.float32(0), lanes, x, 1, 3, (lanes + 1) // 2))
        out[31 * lanes] = simd.total(b)
        simd.store_rows(out, 32 * lanes, lanes, 2, simd.convert(np.float32(0), simd.convert(np.int32(0), a)))
        simd.store(out, 34 * lanes, simd.load_alternate(lanes, x, 2, (lanes + 1) // 2))
        if lanes >= 8:
            simd.store_mask(masks, 0, 16, 2, simd.greater(a, b))
            simd.store_mask(masks, 32, 16, 2, simd.at_least(a, b))
            simd.store_mask(masks, 64, 16, 2, simd.equal(a, b))

    return compute


@pytest.mark.parametrize("lanes", LANES)
def test_floats(lanes: int) -> None:
    rng = np.random.default_rng(lanes)
    x = (rng.standard_normal(1 + 4 * 64) * 4).astype(np.float32)
    x[1], x[1 + 2 * lanes + lanes // 2] = np.nan, np.nan
    x[1 + 3 * lanes - 1] = x[1 + lanes - 1]  # Something equal.
    out, masks = np.full(35 * lanes, -1, np.float32), np.zeros(16, np.uint64)
    _floats(lanes)(x, out, masks)
    a, b, c = x[1 : 1 + 2 * lanes].reshape(2, lanes), x[1 + 2 * lanes : 1 + 3 * lanes], np.float32(1.5)
    with np.errstate(invalid="ignore"):
        exact_fma = (a.astype(np.float64) * b + c).astype(np.float32)
        rank1 = (np.array([[x[1]], [x[4]]], np.float64) * b + a).astype(np.float32)
        expected: list[Any] = [
            a + b, a - b, a * b, a / c, exact_fma, np.where(a > b, b, a), np.where(a < b, b, a), np.maximum(a, b),
            np.where(a < b, a, c), np.rint(a), np.repeat([[x[1]], [x[4]]], lanes, 1), rank1,
        ]  # fmt: skip
    for k, value in enumerate(expected):
        got = out[2 * k * lanes : 2 * (k + 1) * lanes].reshape(2, lanes)
        if value is exact_fma or value is rank1:
            # float64 holds the product exactly but rounds the sum once more: a last bit may differ.
            np.testing.assert_allclose(got, value, rtol=2e-7)
        else:
            np.testing.assert_array_equal(got, value, str(k))
    np.testing.assert_array_equal(out[24 * lanes : 25 * lanes], x[1 : 1 + 2 * lanes : 2])
    first = np.append(x[1:lanes], np.float32(0))
    np.testing.assert_array_equal(out[25 * lanes : 26 * lanes], first)
    stored = np.concatenate([a[:, :-1], np.full((2, 1), -1, np.float32)], 1)
    np.testing.assert_array_equal(out[26 * lanes : 28 * lanes].reshape(2, lanes), stored)
    alternate = np.where(np.arange(lanes) < (lanes + 1) // 2, x[2 : 2 + 2 * lanes : 2], np.float32(0))
    np.testing.assert_array_equal(out[34 * lanes :], alternate)
    scattered = np.full(2 * lanes, -1, np.float32)
    scattered[: 2 * (lanes - 1) : 2] = b[:-1]
    np.testing.assert_array_equal(out[28 * lanes : 30 * lanes], scattered)
    reached = np.minimum(np.arange(lanes), (lanes + 1) // 2 - 1) * 3
    np.testing.assert_array_equal(out[30 * lanes : 31 * lanes], x[1 + reached])
    assert out[31 * lanes] == sum(b[1:], b[0]) or np.isnan(b).any()
    whole = out[32 * lanes : 34 * lanes].reshape(2, lanes)
    np.testing.assert_array_equal(whole[~np.isnan(a)], np.trunc(a[~np.isnan(a)]))
    if lanes >= 8:
        octets = masks.view(np.uint8)
        for k, truth in enumerate((a > b, a >= b, a == b)):
            for r in range(2):
                start = 32 * k + 16 * r
                np.testing.assert_array_equal(
                    octets[start : start + lanes // 8], np.packbits(truth[r], bitorder="little")
                )


@pytest.mark.parametrize("lanes", [4, 8, 16, 32])
def test_words_and_octets(lanes: int) -> None:
    from meshd.kernels import simd
    from meshd.kernels.jit import I4, I8, U1, U8, jit

    @jit(U8, U8, I4, U1, I4, I8)
    def compute(x, out, numbers, octets, weights, starts):  # type: ignore[no-untyped-def]
        a, b = simd.load(lanes, x, 0), simd.load(lanes, x, lanes)
        n = simd.splat(1, lanes, np.uint64(3))
        simd.store(out, 0, simd.bit_and(a, b))
        simd.store(out, lanes, simd.bit_or(a, b))
        simd.store(out, 2 * lanes, simd.bit_xor(a, b))
        simd.store(out, 3 * lanes, simd.shift_left(a, n))
        simd.store(out, 4 * lanes, simd.shift_right(a, n))
        simd.store(out, 5 * lanes, simd.popcount(a))
        rows = simd.load_rows(3, 1, starts, 0, 1)
        acc = simd.splat(3, lanes, np.uint64(5))
        simd.store_rows(out, 6 * lanes, lanes, 3, simd.count_differing(acc, x, rows, 1, b))
        within = simd.count_differing_within(acc, x, rows, 1, b, a)
        simd.store_rows(out, 13 * lanes, lanes, 3, within)
        simd.store_rows(out, 9 * lanes, lanes, 3, simd.gather_rows(lanes, x, rows, 2))
        simd.scatter_mask(out, simd.mul(rows, simd.splat(1, 1, np.int64(8))), 12 * lanes * 8, simd.at_least(acc, b))
        total = simd.dot_octets(simd.splat(3, lanes, np.int32(7)), octets, rows, 1, simd.load(lanes, weights, 0))
        simd.store_rows(numbers, 0, lanes, 3, total)
        small = simd.convert(np.uint8(0), total)
        simd.scatter_rows(octets, simd.mul(rows, simd.splat(1, 1, np.int64(lanes))), 256, lanes - 1, small)

    rng = np.random.default_rng(lanes)
    x = rng.integers(0, 2**64, 4 * lanes + 16, dtype=np.uint64)
    x[lanes] = 4
    out, numbers, starts = np.zeros(16 * lanes, np.uint64), np.zeros(3 * lanes, np.int32), np.array([0, 3, 1])
    octets, weights = rng.integers(0, 256, 512).astype(np.uint8), rng.integers(-(2**31), 2**31, lanes).astype(np.int32)
    octets[:16] = 255
    weights[0] = np.array([-128] * 4, np.int8).view(np.int32)[0]
    before = octets.copy()
    compute(x, out, numbers, octets, weights, starts)
    a, b, three = x[:lanes], x[lanes : 2 * lanes], np.uint64(3)
    for k, value in enumerate((a & b, a | b, a ^ b, a << three, a >> three, np.bitwise_count(a))):
        np.testing.assert_array_equal(out[k * lanes : (k + 1) * lanes], value)
    differing = 5 + np.bitwise_count(x[starts + 1][:, None] ^ b)
    np.testing.assert_array_equal(out[6 * lanes : 9 * lanes].reshape(3, lanes), differing)
    differing = 5 + np.bitwise_count((x[starts + 1][:, None] ^ b) & a)
    np.testing.assert_array_equal(out[13 * lanes : 16 * lanes].reshape(3, lanes), differing)
    np.testing.assert_array_equal(
        out[9 * lanes : 12 * lanes].reshape(3, lanes), [x[s + 2 : s + 2 + lanes] for s in starts]
    )
    if lanes >= 8:
        bits = np.packbits(b <= 5, bitorder="little")
        for start in starts:
            got = out.view(np.uint8)[12 * lanes * 8 + 8 * start :][: lanes // 8]
            np.testing.assert_array_equal(got, bits)
    factors = weights.view(np.int8).reshape(lanes, 4).astype(np.int32)
    dots = np.array([7 + factors @ before[s + 1 : s + 5].astype(np.int32) for s in starts])
    np.testing.assert_array_equal(numbers.reshape(3, lanes), dots)
    for row, start in enumerate(starts):
        place = 256 + start * lanes
        np.testing.assert_array_equal(octets[place : place + lanes - 1], dots[row, :-1].astype(np.uint8))
        assert octets[place + lanes - 1] == before[place + lanes - 1]

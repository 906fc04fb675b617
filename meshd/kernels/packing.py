"""A constant matrix packed in the form in which one row takes least time here."""

import numpy as np

from meshd.kernels import n_of_m
from meshd.kernels.forms import Form, product_forms, rates, storages, stored
from meshd.kernels.kernel import Kernel, Tail
from meshd.kernels.layout import Bits, Layout, Planes, Weights
from meshd.kernels.matrices import SPAN
from meshd.kernels.n_of_m_product import PeriodicProduct
from meshd.kernels.product import DenseProduct, SparseProduct


def pack(weight: Weights, tail: Tail, form: Form | None = None) -> Kernel:
    """A product with `weight`, (outputs, k), in the given form or the best."""
    outputs, k = weight.shape
    form = form or _best(weight)
    storage, suffix = form.storage, "" if form.storage == "float32" else f".{form.storage}"
    layouts: tuple[Layout, Layout, Layout | None] = (
        Planes.plain(k),
        Bits(outputs) if tail.bits else Planes.plain(outputs),
        Planes.plain(outputs) if tail.residual else None,
    )
    if form.period:
        n = n_of_m.kept(weight != 0, form.period)
        return PeriodicProduct(
            f"sparse.product.{n}:{form.period}{suffix}", "sparse", *layouts, numeric="fma",
            macs=outputs * -(-k // form.period) * n, tail=tail, storage=storage, weight=weight, n=n, period=form.period,
        )  # fmt: skip
    if form.block == 0:
        return DenseProduct(
            f"dense.product{suffix}", "dense", *layouts, numeric="fma", macs=outputs * k, tail=tail, storage=storage,
            weight=weight,
        )  # fmt: skip
    blocks = _blocked(weight != 0, form.block).any(1)
    block, position = np.nonzero(blocks)
    return SparseProduct(
        f"sparse.product.b{form.block}{suffix}", "sparse", *layouts, numeric="fma", macs=len(position) * form.block,
        tail=tail, storage=storage, lanes=form.block,
        start=np.concatenate([[0], np.cumsum(blocks.sum(1))]).astype(np.int64), index=position.astype(np.int32),
        value=stored(_blocked(weight, form.block).transpose(0, 2, 1)[block, position], storage),
    )  # fmt: skip


def _best(weight: Weights) -> Form:
    nonzero, known = weight != 0, rates()

    def terms(form: Form) -> float:
        if form.period:
            outputs, k = nonzero.shape
            n = n_of_m.kept(nonzero, form.period) if k >= form.period else form.period
            return float(outputs * -(-k // form.period) * n) if n < form.period else float("inf")
        return float(_blocked(nonzero, form.block).any(1).sum() * form.block if form.block else nonzero.size)

    work = {form[::2]: terms(form) for form in product_forms("float32")}
    forms = (form for storage in storages(weight) for form in product_forms(storage))
    return min(forms, key=lambda form: work[form[::2]] / known[f"product.{form.name}"])


def _blocked(weight: Weights, lanes: int) -> Weights:
    """(outputs, k) as (blocks, lanes, k), outputs padded with zeros to whole spans of 64."""
    outputs, k = weight.shape
    padded = np.zeros((-(-outputs // SPAN) * SPAN, k), weight.dtype)
    padded[:outputs] = weight
    return padded.reshape(-1, lanes, k)

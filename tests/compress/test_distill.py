"""Distillation: the loss is Hinton's."""

import math

import pytest

torch = pytest.importorskip("torch", reason="NOT TESTED: needs PyTorch: pip install 'meshd[train]'")

from meshd.compress.torch.distill import distillation_loss  # noqa: E402


def test_the_loss_is_the_weighted_sum_of_both_parts() -> None:
    student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    loss = distillation_loss(student, teacher, torch.tensor([1]), temperature=2.0, soft=0.75)
    p = [1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))]
    q = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))]
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    label = math.log(1 + math.exp(2))
    assert loss.item() == pytest.approx(0.75 * 4 * divergence + 0.25 * label, rel=1e-5)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = torch.zeros(1, 3, requires_grad=True), torch.ones(1, 3, requires_grad=True)
    distillation_loss(student, teacher, torch.tensor([0])).backward()
    assert student.grad is not None
    assert teacher.grad is None

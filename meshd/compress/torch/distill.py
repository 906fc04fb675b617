"""Knowledge distillation: a small network learns from a larger one's soft answers.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float = 4.0, soft: float = 0.9
) -> Tensor:
    """Mix the cross-entropy against the teacher's soft answers with that against the labels.

    ``soft * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - soft) * cross_entropy(student, labels)``;
    the square of the temperature keeps the two gradients of one size when T changes.

    Parameters
    ----------
    student, teacher : float tensors, shape (batch, classes)
        Logits. No gradient flows into `teacher`.
    labels : int64 tensor, shape (batch,)
    temperature : float
        Above 1: how much of the teacher's view of the wrong classes is shown.
    soft : float
        Weight of the teacher's answers, in [0, 1].

    Returns
    -------
    float scalar tensor, mean over the batch
    """
    student, teacher = student.float(), teacher.detach().float()
    answers = functional.softmax(teacher / temperature, dim=1)
    guesses = functional.log_softmax(student / temperature, dim=1)
    from_teacher = functional.kl_div(guesses, answers, reduction="batchmean") * temperature**2
    return soft * from_teacher + (1.0 - soft) * functional.cross_entropy(student, labels)

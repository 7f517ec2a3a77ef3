import pytest
import torch

from nnunet_dycon.losses import consistency_dice, consistency_mse

LOSSES = [consistency_mse, consistency_dice]


def logits_of(*foreground):
    """Two-class logits (1, 2, N, 1) with these foreground probabilities."""
    p = torch.tensor(foreground, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    return torch.stack([(1 - p).log(), p.log()])[None, ..., None]


def test_mse_of_two_voxels():
    # differences 0.5 and 0 in both of two classes
    assert consistency_mse(logits_of(1, 0), logits_of(0.5, 0)).item() == pytest.approx(0.25 / 2)


def test_dice_counts_foreground_alone():
    # agreement 2 * 0.5, size 1 + 0.25, one voxel of smoothing
    value = consistency_dice(logits_of(1, 0), logits_of(0.5, 0))
    assert value.item() == pytest.approx(1 - 2 / 2.25)
    more_background = consistency_dice(logits_of(1, *[0] * 99), logits_of(0.5, *[0] * 99))
    assert more_background.item() == pytest.approx(value.item(), abs=1e-9)
    assert consistency_mse(logits_of(1, *[0] * 99), logits_of(0.5, *[0] * 99)).item() < 0.01


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("nonlinearity", ["softmax", "sigmoid"])
def test_equal_predictions_cost_nothing_and_the_teacher_gets_no_gradient(loss, nonlinearity):
    student = torch.randn(2, 3, 4, 4, 4, requires_grad=True)
    assert loss(student, student.detach(), nonlinearity).item() == pytest.approx(0, abs=1e-6)
    teacher = torch.randn(2, 3, 4, 4, 4, requires_grad=True)
    loss(student, teacher, nonlinearity).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


@pytest.mark.parametrize("loss", LOSSES)
def test_bad_input_is_refused(loss):
    with pytest.raises(ValueError, match="differ in shape"):
        loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 4))
    with pytest.raises(ValueError, match="softmax"):
        loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), "tanh")

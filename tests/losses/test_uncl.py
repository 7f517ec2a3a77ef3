import itertools
import math

import numpy as np
import pytest
import torch

from nnunet_dycon.losses import UnCLoss, entropy, max_entropy
from nnunet_dycon.losses import uncl as uncl_module


def plain_uncl(student, teacher, beta, nonlinearity="softmax", entropy_weight=1.0):
    """UnCL voxel by voxel, as the formula reads."""

    def distributions(logits):
        if nonlinearity == "softmax":
            p = torch.softmax(logits, 0)
            return p, -(p * torch.log(p)).sum()
        p = torch.sigmoid(logits)
        return p, -(p * torch.log(p) + (1 - p) * torch.log(1 - p)).sum()

    total, count = 0.0, 0
    for b in range(len(student)):
        for voxel in itertools.product(*[range(i) for i in student.shape[2:]]):
            p_s, h_s = distributions(student[(b, slice(None), *voxel)])
            p_t, h_t = distributions(teacher[(b, slice(None), *voxel)])
            difference = ((p_s - p_t) ** 2).sum()
            total = total + difference / (torch.exp(beta * h_s) + torch.exp(beta * h_t))
            total = total + entropy_weight * beta * (h_s + h_t)
            count += 1
    return total / count


@pytest.mark.parametrize("nonlinearity", ["softmax", "sigmoid"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (1, 2, 3, 2, 2)])
@pytest.mark.parametrize(("beta", "entropy_weight"), [(0.0, 1.0), (0.5, 1.0), (5.0, 0.1)])
def test_value_and_gradient_equal_the_formula(monkeypatch, nonlinearity, shape, beta, entropy_weight):
    monkeypatch.setitem(uncl_module._CHUNK_VOXELS, "cpu", 5)  # several chunks, the last one short
    torch.manual_seed(0)
    student = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(shape, dtype=torch.float64)
    expected = plain_uncl(student, teacher, beta, nonlinearity, entropy_weight)
    (expected_gradient,) = torch.autograd.grad(expected, student)
    loss = UnCLoss(nonlinearity=nonlinearity, entropy_weight=entropy_weight)(student, teacher, beta)
    (gradient,) = torch.autograd.grad(3 * loss, student)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, 3 * expected_gradient)


@pytest.mark.shared_data
@pytest.mark.parametrize("case", ["binary", "four_class"])
@pytest.mark.parametrize("beta", [0.5, 2.0, 5.0])
def test_matches_the_published_code(shared_data, case, beta):
    # the published code adds 1e-6 inside the logarithm, hence the tolerance
    golden = np.load(shared_data / "golden_losses.npz")
    student = torch.from_numpy(golden[f"uncl_{case}_student"]).requires_grad_()
    loss = UnCLoss()(student, torch.from_numpy(golden[f"uncl_{case}_teacher"]), beta)
    loss.backward()
    assert loss.item() == pytest.approx(golden[f"uncl_{case}_loss_beta{beta}"].item(), abs=1e-4)
    np.testing.assert_allclose(student.grad, golden[f"uncl_{case}_grad_beta{beta}"], atol=1e-4)


def test_teacher_gets_no_gradient():
    student, teacher = (torch.randn(1, 2, 4, 4, requires_grad=True) for _ in range(2))
    UnCLoss()(student, teacher, 1.0).backward()
    assert student.grad is not None and student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 1, 3, 4, 4).to(dtype)
    student.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = UnCLoss()(student, teacher, 2.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, UnCLoss()(student.float(), teacher.float(), 2.0))
    loss.backward()
    assert student.grad.dtype == dtype


@pytest.mark.parametrize("nonlinearity", ["softmax", "sigmoid"])
def test_huge_logits_stay_finite(nonlinearity):
    student = (torch.randn(1, 3, 4, 4, 4) * 1e4).requires_grad_()
    loss = UnCLoss(nonlinearity=nonlinearity)(student, torch.randn(1, 3, 4, 4, 4) * 1e4, 5.0)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


def test_equal_and_certain_predictions_cost_nothing():
    logits = torch.zeros(1, 2, 3, 3, 3)
    logits[:, 0] = 50
    assert UnCLoss()(logits, logits, 5.0).item() == pytest.approx(0, abs=1e-6)


def test_uncertain_voxel_counts_less():
    # one voxel, p_s = (1, 0) and p_t = (1/2, 1/2): 0.5 / (1 + 2^beta), and beta log 2 of entropy
    student = torch.tensor([100.0, -100.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    teacher = torch.zeros(1, 2, 1, 1, dtype=torch.float64)
    assert UnCLoss()(student, teacher, 2.0).item() == pytest.approx(0.5 / 5 + 2 * math.log(2))


@pytest.mark.parametrize(
    ("shapes", "beta", "message"),
    [
        (((1, 2, 4, 4), (1, 2, 4, 5)), 1.0, "differ in shape"),
        (((1, 1, 4, 4), (1, 1, 4, 4)), 1.0, "at least two classes"),
        (((0, 2, 4, 4), (0, 2, 4, 4)), 1.0, "not empty"),
        (((1, 2, 4, 4), (1, 2, 4, 4)), -1.0, "beta"),
        (((1, 2, 4, 4), (1, 2, 4, 4)), math.inf, "beta"),
    ],
)
def test_bad_input_is_refused(shapes, beta, message):
    with pytest.raises(ValueError, match=message):
        UnCLoss()(torch.zeros(shapes[0]), torch.zeros(shapes[1]), beta)


def test_unknown_nonlinearity_is_refused():
    with pytest.raises(ValueError, match="softmax"):
        UnCLoss(nonlinearity="tanh")


@pytest.mark.parametrize("nonlinearity", ["softmax", "sigmoid"])
def test_entropy_of_undecided_logits_is_the_largest(nonlinearity):
    undecided = entropy(torch.zeros(1, 3, 2, 2), nonlinearity)
    torch.testing.assert_close(undecided, torch.full((1, 2, 2), max_entropy(3, nonlinearity)))
    assert (entropy(torch.randn(1, 3, 2, 2), nonlinearity) < max_entropy(3, nonlinearity)).all()

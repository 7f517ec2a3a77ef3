import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_dycon.losses import FeCLoss, fecl


def plain_fecl(z, labels, teacher=None, uncertainty=None, tau=0.6, gamma=2.0, negative_focal=True, top_k=10, cross=1.0):
    """FeCL patch by patch, as the formula reads."""
    focal, across, count = 0.0, 0.0, 0
    for b in range(len(z)):
        y = labels[b].tolist()
        for i in (i for i in range(len(y)) if y[i] >= 0):
            count += 1
            positives = [k for k in range(len(y)) if k != i and y[k] == y[i]]
            negatives = [q for q in range(len(y)) if y[q] >= 0 and y[q] != y[i]]
            similarity = [(z[b, i] * z[b, k]).sum() for k in range(len(y))]
            push = sum(
                (((1 + similarity[q]) / 2) ** gamma if negative_focal else 1.0) * torch.exp(similarity[q] / tau)
                for q in negatives
            )
            terms = []
            for k in positives:
                p = torch.exp(similarity[k] / tau) / (torch.exp(similarity[k] / tau) + push)
                terms.append(-((1 - p) ** gamma) * torch.log(p))
            weight = 1 if uncertainty is None else 1 + uncertainty[b, i]
            if terms:
                focal = focal + weight * sum(terms) / len(terms)
            if teacher is not None and negatives:
                nearest = sorted(((z[b, i] * teacher[b, q]).sum() for q in negatives), reverse=True)[:top_k]
                across = across + sum(-torch.log(1 - s.clamp(min=0)) for s in nearest) / len(nearest)
    return (focal + cross * across) / max(count, 1)


def embeddings(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1).to(dtype)


LABELS = torch.tensor([[0, 0, 1, 1, 2, -1, 0], [1, 1, 1, 1, 0, 2, -1]])


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 2.5])
@pytest.mark.parametrize("negative_focal", [True, False])
@pytest.mark.parametrize("with_teacher", [True, False])
@pytest.mark.parametrize("with_uncertainty", [True, False])
def test_value_and_gradient_equal_the_formula(gamma, negative_focal, with_teacher, with_uncertainty):
    z = embeddings(2, 7, 4).requires_grad_()
    teacher = embeddings(2, 7, 4, seed=1) if with_teacher else None
    uncertainty = torch.rand(2, 7, dtype=torch.float64) if with_uncertainty else None
    expected = plain_fecl(z, LABELS, teacher, uncertainty, gamma=gamma, negative_focal=negative_focal, top_k=2)
    (expected_gradient,) = torch.autograd.grad(expected, z)
    loss = FeCLoss(gamma=gamma, negative_focal=negative_focal, top_k=2, block_entries=21)(
        z, LABELS, teacher, uncertainty
    )
    (gradient,) = torch.autograd.grad(2 * loss, z)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, 2 * expected_gradient)


@pytest.mark.shared_data
@pytest.mark.parametrize("gamma", [0, 2])
def test_matches_the_published_code(shared_data, gamma):
    golden = np.load(shared_data / "golden_losses.npz")
    z, labels = (torch.from_numpy(golden[f"fecl_{i}"]) for i in ("embeddings", "labels"))
    loss = FeCLoss(gamma=gamma, negative_focal=False)(z, labels)
    assert loss.item() == pytest.approx(golden[f"fecl_loss_gamma{gamma}"].item(), abs=1e-8)


@pytest.mark.parametrize("num_patches", [1, 2, 5, 130])
def test_blocks_change_nothing(num_patches):
    z, teacher = embeddings(2, num_patches, 8).requires_grad_(), embeddings(2, num_patches, 8, seed=1)
    labels = torch.randint(-1, 3, (2, num_patches))
    whole = FeCLoss(block_entries=num_patches**2)(z, labels, teacher)
    for rows in (1, 3, 64):
        parts = FeCLoss(block_entries=rows * num_patches)(z, labels, teacher)
        torch.testing.assert_close(parts, whole)
        torch.testing.assert_close(torch.autograd.grad(parts, z), torch.autograd.grad(FeCLoss()(z, labels, teacher), z))


@pytest.mark.parametrize("entries", [25, 50, 200])
def test_a_teacher_of_the_last_crops_leaves_the_others_without_its_term(entries):
    z, labels = embeddings(4, 5, 4).requires_grad_(), torch.randint(-1, 2, (4, 5))
    teacher, counts = embeddings(3, 5, 4, seed=1), (labels >= 0).sum(1)
    parts = FeCLoss()(z[:1], labels[:1]) * counts[0] + FeCLoss()(z[1:], labels[1:], teacher) * counts[1:].sum()
    loss = FeCLoss(block_entries=entries)(z, labels, teacher)
    torch.testing.assert_close(loss, parts / counts.sum())
    expected, found = (torch.autograd.grad(i, z)[0] for i in (parts / counts.sum(), loss))
    torch.testing.assert_close(found, expected)


def test_crops_that_fit_a_block_cost_no_more_operations_than_one():
    class Count(TorchDispatchMode):
        number = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            Count.number += 1
            return function(*args, **kwargs or {})

    numbers = []
    for crops in (1, 4):
        z, Count.number = embeddings(crops, 64, 8).requires_grad_(), 0
        with Count():
            FeCLoss()(z, torch.randint(0, 2, (crops, 64)), z.detach()).backward()
        numbers.append(Count.number)
    assert numbers[0] == numbers[1] < 140


def test_compiled_it_is_the_same(monkeypatch):
    compiled = torch.compile(fecl._contrast, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(fecl, "_compiled", lambda: compiled)
    z, teacher = embeddings(2, 7, 4).requires_grad_(), embeddings(2, 7, 4, seed=1)
    losses = [FeCLoss(compiled=i)(z, LABELS, teacher, torch.rand(2, 7).fill_(0.5)) for i in (False, True)]
    torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(*(torch.autograd.grad(i, z)[0] for i in losses))


def test_gradcheck():
    z, uncertainty = embeddings(2, 7, 3).requires_grad_(), torch.rand(2, 7, dtype=torch.float64, requires_grad=True)
    teacher = embeddings(2, 7, 3, seed=1)
    assert torch.autograd.gradcheck(lambda a, u: FeCLoss(top_k=2)(a, LABELS, teacher, u), (z, uncertainty))


def test_patches_without_label_take_no_part():
    z, teacher, keep = embeddings(1, 7, 4), embeddings(1, 7, 4, seed=1), LABELS[0] >= 0
    with_them = FeCLoss()(z, LABELS[:1], teacher)
    torch.testing.assert_close(with_them, FeCLoss()(z[:, keep], LABELS[:1, keep], teacher[:, keep]))


def test_crops_are_contrasted_within_themselves():
    z, labels = embeddings(2, 6, 4), torch.tensor([[0, 0, 1, 1, 0, 1], [0, 1, 1, 1, 0, 1]])
    single = [FeCLoss()(z[b : b + 1], labels[b : b + 1]) for b in range(2)]
    torch.testing.assert_close(FeCLoss()(z, labels), sum(single) / 2)


def test_order_of_patches_and_names_of_classes_do_not_matter():
    z, labels, order = embeddings(1, 7, 4), torch.tensor([[0, 0, 1, 1, 2, 0, 2]]), torch.randperm(7)
    expected = FeCLoss()(z, labels)
    torch.testing.assert_close(FeCLoss()(z[:, order], labels[:, order]), expected)
    torch.testing.assert_close(FeCLoss()(z, (labels + 1) % 3), expected)


@pytest.mark.parametrize(
    "labels",
    [[-1, -1, -1, -1], [0, 0, 0, 0], [0, 1, 2, 3], [0, -1, -1, -1]],
    ids=["no label", "one class", "no positives", "one patch"],
)
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_without_pairs_the_loss_is_zero_with_a_gradient(labels, gamma):
    z = embeddings(1, 4, 3).requires_grad_()
    loss = FeCLoss(gamma=gamma)(z, torch.tensor([labels]))
    loss.backward()
    assert loss.item() == 0
    torch.testing.assert_close(z.grad, torch.zeros_like(z))


def test_neither_teacher_nor_other_crop_gets_a_gradient():
    z, teacher = embeddings(2, 4, 3).requires_grad_(), embeddings(2, 4, 3, seed=1).requires_grad_()
    FeCLoss()(z, torch.tensor([[0, 0, 1, 1], [-1, -1, -1, -1]]), teacher).backward()
    assert teacher.grad is None
    assert z.grad[0].abs().sum() > 0 and z.grad[1].abs().sum() == 0


def test_teacher_term_of_two_patches():
    # one negative with S = 0.5 on each side: -log(1/2)
    z = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]], dtype=torch.float64)
    teacher = torch.tensor([[[0.5, math.sqrt(0.75)], [0.5, math.sqrt(0.75)]]], dtype=torch.float64)
    loss = FeCLoss(lambda_cross=3.0)(z, torch.tensor([[0, 1]]), teacher)
    assert loss.item() == pytest.approx(3 * math.log(2))


def test_identical_teacher_patches_stay_finite():
    z = embeddings(1, 6, 4, dtype=torch.float32).requires_grad_()
    loss = FeCLoss()(z, torch.arange(6)[None], z.detach()[:, [1, 0, 3, 2, 5, 4]])
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    z = embeddings(1, 20, 8, dtype=dtype).requires_grad_()
    labels = torch.arange(20)[None] % 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = FeCLoss()(z, labels, z)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, FeCLoss()(z.float(), labels, z.float()))
    loss.backward()
    assert z.grad.dtype == dtype


def test_small_temperatures_stay_finite():
    z = embeddings(1, 20, 8, dtype=torch.float32).requires_grad_()
    loss = FeCLoss(temperature=0.005)(z, torch.arange(20)[None] % 2)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 3).long()), "embeddings"),
        ((torch.zeros(1, 3, 2), torch.zeros(1, 4).long()), "labels"),
        ((torch.zeros(1, 3, 2), torch.zeros(1, 3)), "integers"),
        ((torch.zeros(1, 3, 2), torch.zeros(1, 3).long(), torch.zeros(1, 3, 4)), "teacher_embeddings"),
        ((torch.zeros(1, 3, 2), torch.zeros(1, 3).long(), None, torch.zeros(3)), "uncertainty"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FeCLoss()(*arguments)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"gamma": -1.0}, {"top_k": 0}, {"lambda_cross": -1.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        FeCLoss(**settings)

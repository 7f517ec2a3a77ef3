"""What holds for the losses whatever the input: hypothesis searches for a counterexample."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_dycon.losses import FeCLoss, UnCLoss, consistency_dice, consistency_mse, entropy, max_entropy
from nnunet_dycon.training.embeddings import ProjectionHead

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
AUTOCAST = [None, torch.bfloat16]
with contextlib.suppress(RuntimeError), torch.autocast("cpu", dtype=torch.float16):  # an old torch has none on a CPU
    AUTOCAST.append(torch.float16)
every_case = settings(max_examples=60, deadline=None, derandomize=True)


class autocast_to:
    """Autocast on the CPU to a type, or none."""

    def __init__(self, dtype):
        self.context = torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def __enter__(self):
        return self.context.__enter__()

    def __exit__(self, *error):
        return self.context.__exit__(*error)


@st.composite
def logits(draw, channels, magnitude=1e4):
    """Logits (B, C, X, Y[, Z]): ordinary, huge, equal in all channels, or certain of one class."""
    shape = (draw(st.integers(1, 2)), channels, *draw(st.sampled_from([(4, 3), (3, 2, 4)])))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    values = torch.randn(shape, generator=generator)
    kind = draw(st.sampled_from(["random", "equal", "certain", "signs"]))
    if kind == "equal":
        values = torch.zeros(shape)
    elif kind == "certain":
        values = F.one_hot(values.argmax(1), channels).movedim(-1, 1).float()
    elif kind == "signs":
        values = values.sign()
    scale = draw(st.sampled_from([1e-3, 1.0, 10.0, 100.0, 1e3, magnitude]))
    return (values * scale).clamp(-magnitude, magnitude)


@st.composite
def pairs_of_logits(draw, min_channels=2, max_channels=40):
    """Student's and teacher's logits of one shape and type, and how the channels are read."""
    channels = draw(st.integers(min_channels, max_channels))
    student, teacher = draw(logits(channels)), draw(logits(channels))
    teacher = teacher if teacher.shape == student.shape else student.flip(1)
    dtype = draw(st.sampled_from(DTYPES))
    return student.to(dtype), teacher.to(dtype), draw(st.sampled_from(["softmax", "sigmoid"]))


def descend(loss, student, teacher):
    """The loss and the student's gradient, after a check that both are finite and the teacher got none."""
    assert loss.dtype == torch.float32 and loss.ndim == 0
    loss.backward()
    assert torch.isfinite(loss), f"loss {loss.item()}"
    assert torch.isfinite(student.grad).all() and student.grad.dtype == student.dtype
    assert teacher is None or teacher.grad is None
    return loss.detach(), student.grad


# ----------------------------------------------------------------------------------------- UnCL and consistency


@every_case
@given(pairs_of_logits(), st.sampled_from([0.0, 0.5, 5.0, 50.0]), st.sampled_from(AUTOCAST))
def test_uncl_is_finite_not_negative_and_spares_the_teacher(pair, beta, autocast):
    student, teacher, nonlinearity = pair
    student, teacher = student.requires_grad_(), teacher.requires_grad_()
    with autocast_to(autocast):
        loss = UnCLoss(nonlinearity=nonlinearity)(student, teacher, beta)
    value, _ = descend(loss, student, teacher)
    assert value >= 0


@every_case
@given(pairs_of_logits(), st.sampled_from(AUTOCAST))
def test_consistency_losses_are_shares_and_spare_the_teacher(pair, autocast):
    student, teacher, nonlinearity = pair
    for loss in (consistency_mse, consistency_dice):
        student, teacher = student.detach().requires_grad_(), teacher.detach().requires_grad_()
        with autocast_to(autocast):
            value, _ = descend(loss(student, teacher, nonlinearity), student, teacher)
        assert -1e-6 <= value <= 1 + 1e-6


@every_case
@given(pairs_of_logits())
def test_equal_networks_have_no_consistency_loss(pair):
    student, _, nonlinearity = pair
    assert consistency_mse(student, student, nonlinearity) == 0
    assert consistency_dice(student, student, nonlinearity) == pytest.approx(0, abs=1e-6)
    with_entropy = UnCLoss(nonlinearity=nonlinearity)(student, student, 2.0)
    expected = 2 * 2.0 * entropy(student, nonlinearity).mean()
    torch.testing.assert_close(with_entropy, expected, atol=1e-5, rtol=1e-4)


@every_case
@given(pairs_of_logits(), st.randoms(use_true_random=False))
def test_the_order_of_classes_and_of_voxels_does_not_matter(pair, random):
    student, teacher, nonlinearity = pair
    first = 1 if nonlinearity == "softmax" else 0  # the soft Dice leaves background out
    channels = [*range(first), *random.sample(range(first, student.shape[1]), student.shape[1] - first)]
    rows = random.sample(range(student.shape[2]), student.shape[2])
    for loss in (UnCLoss(nonlinearity=nonlinearity), consistency_mse, consistency_dice):
        last = 1.5 if isinstance(loss, UnCLoss) else nonlinearity
        expected = loss(student, teacher, last)
        torch.testing.assert_close(loss(student[:, channels], teacher[:, channels], last), expected)
        torch.testing.assert_close(loss(student[:, :, rows], teacher[:, :, rows], last), expected)


@every_case
@given(pairs_of_logits(), st.sampled_from(AUTOCAST))
def test_entropy_lies_between_none_and_the_largest(pair, autocast):
    student, _, nonlinearity = pair
    with autocast_to(autocast):
        value = entropy(student, nonlinearity)
    highest = max_entropy(student.shape[1], nonlinearity)
    assert (value >= 0).all() and (value <= highest * (1 + 1e-5)).all()


# ---------------------------------------------------------------------------------------------------------- FeCL


@st.composite
def patches(draw):
    """Unit vectors (B, N, D) of student and teacher, labels from -1 on, uncertainty: also equal and opposite ones."""
    batch, number, size = draw(st.integers(1, 2)), draw(st.integers(1, 12)), draw(st.integers(2, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def vectors():
        values = torch.randn(batch, number, size, generator=generator)
        kind = draw(st.sampled_from(["random", "equal", "opposite"]))
        if kind != "random":
            signs = torch.randn(batch, number, 1, generator=generator).sign() if kind == "opposite" else 1
            values = values[:, :1].expand_as(values) * signs
        return F.normalize(values, dim=-1).to(dtype)

    dtype = draw(st.sampled_from(DTYPES))
    labels = torch.randint(-1, draw(st.integers(1, 4)), (batch, number), generator=generator)
    uncertainty = torch.rand(batch, number, generator=generator) if draw(st.booleans()) else None
    return vectors(), labels, vectors() if draw(st.booleans()) else None, uncertainty


contrasts = st.builds(
    FeCLoss,
    temperature=st.sampled_from([0.005, 0.1, 0.6, 10.0]),
    gamma=st.sampled_from([0.0, 0.5, 2.0, 5.0]),
    negative_focal=st.booleans(),
    top_k=st.integers(1, 20),
    lambda_cross=st.sampled_from([0.0, 1.0]),
    block_entries=st.sampled_from([None, 1, 30]),
)


@every_case
@given(patches(), contrasts, st.sampled_from(AUTOCAST))
def test_fecl_is_finite_not_negative_and_spares_the_teacher(drawn, contrast, autocast):
    student, labels, teacher, uncertainty = drawn
    student.requires_grad_()
    if teacher is not None:
        teacher.requires_grad_()
    with autocast_to(autocast):
        loss = contrast(student, labels, teacher, uncertainty)
    value, gradient = descend(loss, student, teacher)
    assert value >= 0
    assert (gradient[labels < 0] == 0).all()


@every_case
@given(patches(), contrasts, st.randoms(use_true_random=False))
def test_the_order_of_patches_and_the_names_of_their_classes_do_not_matter(drawn, contrast, random):
    student, labels, teacher, uncertainty = (i if i is None or i.dtype == torch.int64 else i.double() for i in drawn)
    order = random.sample(range(labels.shape[1]), labels.shape[1])
    names = torch.tensor([*random.sample(range(100), 4), -1])  # -1 stays what it is
    expected = contrast(student, labels, teacher, uncertainty)
    shuffled = [None if i is None else i[:, order] for i in (student, labels, teacher, uncertainty)]
    torch.testing.assert_close(contrast(*shuffled), expected)
    torch.testing.assert_close(contrast(student, names[labels], teacher, uncertainty), expected)


@every_case
@given(st.sampled_from([1e-4, 1.0, 1e4]), st.booleans(), st.sampled_from(AUTOCAST), st.integers(0, 2**32))
def test_embeddings_of_any_features_give_a_finite_fecl(scale, constant, autocast, seed):
    torch.manual_seed(seed)
    features = torch.ones(2, 4, 3, 3, 2) if constant else torch.randn(2, 4, 3, 3, 2)
    features = (features * scale).requires_grad_()
    head = ProjectionHead(4, 3)
    with autocast_to(autocast):
        embeddings = head(features)
        loss = FeCLoss()(embeddings, torch.randint(-1, 3, (2, 18)), embeddings.detach())
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2, 18), atol=1e-3, rtol=0)
    descend(loss, features, None)
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())

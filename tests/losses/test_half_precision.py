"""Gradients of the losses for half-precision logits at the size of a real crop, as a gradient scaler asks for them."""

import pytest
import torch
import torch.nn.functional as F

from nnunet_dycon.losses import FeCLoss, UnCLoss, consistency_dice, consistency_mse

SCALES = (1.0, 1024.0, 65536.0, 2.0**20)
DTYPES = (torch.float16, torch.bfloat16)
SMALL, REAL = (2, 16, 24, 20), (2, 112, 112, 80)
"""(B, X, Y, Z); the values of a small crop fit float16 at all scales, those of a real one need a gradient scaler."""


def pair_of_logits(channels, shape, dtype):
    """Student and teacher (B, C, X, Y, Z) that mostly agree and are mostly sure, from coarse noise."""
    generator = torch.Generator().manual_seed(0)
    batch, *voxels = shape

    def noise(scale, coarseness):
        coarse = torch.randn((batch, channels, *[max(2, i // coarseness) for i in voxels]), generator=generator)
        return scale * F.interpolate(coarse, size=voxels, mode="trilinear")

    teacher = noise(4, 8)
    return (teacher + noise(1, 4)).to(dtype), teacher.to(dtype)


def uncl(beta, entropy_weight=0.01):
    return lambda s, t, nonlinearity: UnCLoss(nonlinearity=nonlinearity, entropy_weight=entropy_weight)(s, t, beta)


VOXEL_LOSSES = {
    "UnCL, beta 5": uncl(5.0),
    "UnCL, beta 0.5": uncl(0.5),
    "UnCL, entropy weight 1": uncl(1.0, entropy_weight=1.0),
    "MSE": consistency_mse,
    "Dice": consistency_dice,
}


def gradients(loss, tensor, scales=(1.0,)):
    """Gradient of the loss over the tensor for each factor that comes in."""
    leaf = tensor.detach().requires_grad_()
    value = loss(leaf)
    assert value.dtype == torch.float32
    for scale in scales:
        (found,) = torch.autograd.grad(value * scale, leaf, retain_graph=True)
        assert found.dtype == leaf.dtype
        yield found


def check(found, exact, scale):
    """It is the float32 gradient rounded once, so direction and length are right where the values fit the type."""
    expected = exact * scale
    rounded = expected.to(found.dtype)
    spacing = torch.finfo(found.dtype).eps * expected.abs() + torch.finfo(found.dtype).tiny * 2**-9
    fits = torch.isfinite(rounded)
    assert torch.isfinite(found[fits]).all()
    difference = (found.float() - expected).abs()
    assert (difference[fits] <= spacing[fits]).all(), f"off by {float((difference / spacing)[fits].max())} spacings"
    length = expected.double().norm()
    if fits.all() and abs(rounded.double().norm() / length - 1) < 0.005:
        assert F.cosine_similarity(found.double().flatten(), expected.double().flatten(), dim=0) > 0.999
        assert abs(found.double().norm() / length - 1) < 0.01


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VOXEL_LOSSES)
@pytest.mark.parametrize(("channels", "nonlinearity"), [(2, "softmax"), (4, "softmax"), (3, "sigmoid")])
def test_gradient_of_half_logits_is_the_float32_one(name, channels, nonlinearity, dtype):
    student, teacher = pair_of_logits(channels, SMALL, dtype)
    loss = VOXEL_LOSSES[name]
    (exact,) = gradients(lambda s: loss(s, teacher.float(), nonlinearity), student.float())
    for scale, found in zip(SCALES, gradients(lambda s: loss(s, teacher, nonlinearity), student, SCALES), strict=True):
        check(found, exact, scale)


@pytest.mark.parametrize(
    ("name", "dtype", "scales"),
    [
        ("UnCL, beta 5", torch.float16, (65536.0, 2.0**20)),
        ("UnCL, beta 5", torch.bfloat16, (1.0,)),
        ("MSE", torch.float16, (65536.0, 2.0**20)),
        ("Dice", torch.float16, (65536.0, 2.0**20)),
    ],
)
def test_so_it_is_at_the_size_of_a_real_crop(name, dtype, scales):
    student, teacher = pair_of_logits(2, REAL, dtype)
    loss = VOXEL_LOSSES[name]
    (exact,) = gradients(lambda s: loss(s, teacher.float(), "softmax"), student.float())
    for scale, found in zip(scales, gradients(lambda s: loss(s, teacher, "softmax"), student, scales), strict=True):
        check(found, exact, scale)
        assert F.cosine_similarity(found.flatten().float(), exact.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block_entries", [None, 40_000])
def test_gradient_of_half_embeddings_is_the_float32_one(dtype, block_entries):
    generator = torch.Generator().manual_seed(0)
    z, teacher = (F.normalize(torch.randn(4, 512, 32, generator=generator) + 1, dim=-1).to(dtype) for _ in range(2))
    labels = torch.randint(-1, 3, (4, 512), generator=generator)
    uncertainty = torch.rand(4, 512, generator=generator).to(dtype)
    loss = FeCLoss(block_entries=block_entries)
    for half, call in (
        (z, lambda i: loss(i, labels, teacher.to(i.dtype), uncertainty.to(i.dtype))),
        (uncertainty, lambda i: loss(z.to(i.dtype), labels, teacher.to(i.dtype), i)),
    ):
        (exact,) = gradients(call, half.float())
        for scale, found in zip(SCALES, gradients(call, half, SCALES), strict=True):
            check(found, exact, scale)

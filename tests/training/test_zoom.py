"""The zoomed view changes the student's images and what the teacher said of them in the same way."""

from __future__ import annotations

import math

import pytest
import torch

from nnunet_dycon.training.step import Crops
from nnunet_dycon.training.zoom import magnify, random_factors, zoom


def ball(shape, radius_voxels):
    axes = [torch.arange(n) - (n - 1) / 2 for n in shape]
    distance = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    return (distance < radius_voxels).float()


@pytest.mark.parametrize("shape", [(24, 32, 40), (32, 40)])
@pytest.mark.parametrize("factor", [0.7, 1.0, 1.5])
def test_a_ball_seen_larger_is_a_larger_ball(shape, factor):
    seen = magnify(ball(shape, 6.0)[None, None], torch.full((1, len(shape)), factor))[0, 0]
    expected = ball(shape, 6.0 * factor)
    assert 2 * (seen > 0.5).logical_and(expected > 0).sum() / ((seen > 0.5).sum() + expected.sum()) > 0.94
    assert float(seen.sum()) == pytest.approx(float(expected.sum()), rel=0.06)


def test_factor_one_changes_nothing():
    maps = torch.randn(2, 3, 6, 7, 8)
    torch.testing.assert_close(magnify(maps, torch.ones(2, 3)), maps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_does_not_make_the_places_coarse(dtype):
    maps = torch.arange(64.0).expand(1, 1, 4, 4, 64).to(dtype)
    factors = torch.tensor([[1.0, 1.0, 1.25]])
    with torch.autocast("cpu", torch.bfloat16):
        seen = magnify(maps, factors)
    assert seen.dtype == dtype
    torch.testing.assert_close(seen, magnify(maps, factors))
    torch.testing.assert_close(seen[0, 0, 0, 0].float(), (torch.arange(64.0) - 31.5) / 1.25 + 31.5, atol=0.2, rtol=0)


def test_smaller_views_are_mirrored_at_the_border():
    line = torch.arange(16.0).view(1, 1, 16, 1).expand(1, 1, 16, 16)
    seen = magnify(line, torch.full((1, 2), 0.5))[0, 0, :, 8]
    assert seen.min() >= 0 and seen.max() <= 15
    torch.testing.assert_close(seen[:4], seen[4:8].flip(0))


def test_factors_are_log_uniform_and_leave_thick_slices_alone():
    torch.manual_seed(0)
    factors = random_factors(4000, (16, 28, 36), 1.6)
    assert torch.equal(factors, factors[:, :1].expand(-1, 3))
    logs = factors[:, 0].log() / math.log(1.6)
    assert logs.abs().max() <= 1 and logs.mean().abs() < 0.05 and logs.std() == pytest.approx(3**-0.5, rel=0.05)
    thick = random_factors(10, (8, 28, 36), 1.6)
    assert (thick[:, 0] == 1).all() and (thick[:, 1] != 1).all()
    assert random_factors(10, (8, 36), 1.6).shape == (10, 2)


@pytest.mark.parametrize("teacher_sees_labeled", [False, True])
def test_images_logits_and_embeddings_are_zoomed_alike(teacher_sees_labeled):
    torch.manual_seed(0)
    labeled, grid = 1, (4, 4, 4)
    images = torch.nn.functional.interpolate(torch.randn(3, 1, *grid), scale_factor=4, mode="trilinear")
    seen = images if teacher_sees_labeled else images[labeled:]
    pooled = torch.nn.functional.avg_pool3d(seen, 4).flatten(2).transpose(1, 2)
    embeddings = torch.nn.functional.normalize(torch.cat([pooled, torch.ones_like(pooled)], 2), dim=2)
    crops = Crops(images.clone(), labeled, [], images[labeled:])
    logits, moved = zoom(crops, seen.expand(-1, 2, -1, -1, -1), embeddings, grid, 1.6)
    assert torch.equal(crops.images[:labeled], images[:labeled])
    assert not torch.allclose(crops.images[labeled:], images[labeled:], atol=0.1)
    assert torch.equal(logits, crops.images[-len(seen) :].expand(-1, 2, -1, -1, -1))
    assert moved is not None
    torch.testing.assert_close(moved.norm(dim=2), torch.ones(len(seen), 64))
    if teacher_sees_labeled:
        torch.testing.assert_close(moved[:1], embeddings[:1])
    own = torch.nn.functional.avg_pool3d(crops.images[-len(seen) :], 4).flatten()
    said = (moved[..., 0] / moved[..., 1]).flatten()
    assert torch.corrcoef(torch.stack([own, said]))[0, 1] > 0.9


def test_without_embeddings_there_are_none_after():
    crops = Crops(torch.randn(2, 1, 8, 8), 1, [], torch.randn(1, 1, 8, 8))
    assert zoom(crops, torch.randn(1, 2, 8, 8), None, (), 1.6)[1] is None

"""The student's views change its images and what the teacher said of them in the same way."""

from __future__ import annotations

import math

import pytest
import torch

from nnunet_dycon.settings import SemiSupervisedSettings
from nnunet_dycon.training.step import Taught
from nnunet_dycon.training.student_views import (
    CutMix,
    Zoom,
    magnify,
    paste_box,
    random_box,
    random_factors,
    seen_by_student,
    student_views,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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
    factors = random_factors(4000, (16, 28, 36), 1.6, generator())
    assert torch.equal(factors, factors[:, :1].expand(-1, 3))
    logs = factors[:, 0].log() / math.log(1.6)
    assert logs.abs().max() <= 1 and logs.mean().abs() < 0.05 and logs.std() == pytest.approx(3**-0.5, rel=0.05)
    thick = random_factors(10, (8, 28, 36), 1.6, generator())
    assert (thick[:, 0] == 1).all() and (thick[:, 1] != 1).all()
    assert random_factors(10, (8, 36), 1.6, generator()).shape == (10, 2)


@pytest.mark.parametrize("teacher_sees_labeled", [False, True])
def test_images_logits_and_embeddings_are_zoomed_alike(teacher_sees_labeled):
    torch.manual_seed(0)
    grid = (4, 4, 4)
    seen = torch.nn.functional.interpolate(torch.randn(3, 1, *grid), scale_factor=4, mode="trilinear")
    unlabeled = seen[1:]
    seen = seen if teacher_sees_labeled else unlabeled
    pooled = torch.nn.functional.avg_pool3d(seen, 4).flatten(2).transpose(1, 2)
    embeddings = torch.nn.functional.normalize(torch.cat([pooled, torch.ones_like(pooled)], 2), dim=2)
    taught = Taught(seen.expand(-1, 2, -1, -1, -1), embeddings)
    images, moved = seen_by_student(unlabeled, taught, [Zoom(1.6)], grid, generator())
    assert not torch.allclose(images, unlabeled, atol=0.1)
    assert torch.equal(moved.logits[-2:], images.expand(-1, 2, -1, -1, -1))
    torch.testing.assert_close(moved.embeddings.norm(dim=2), torch.ones(len(seen), 64))
    if teacher_sees_labeled:
        assert torch.equal(moved.logits[:1], taught.logits[:1])
        torch.testing.assert_close(moved.embeddings[:1], embeddings[:1])
    own = torch.nn.functional.avg_pool3d(images, 4).flatten()
    said = (moved.embeddings[-2:, :, 0] / moved.embeddings[-2:, :, 1]).flatten()
    assert torch.corrcoef(torch.stack([own, said]))[0, 1] > 0.9


@pytest.mark.parametrize("view", [Zoom(1.6), CutMix(1.0)])
def test_a_view_draws_from_its_generator_alone_and_makes_no_embeddings(view):
    crops, taught = torch.randn(2, 1, 8, 8), Taught(torch.randn(2, 2, 8, 8))
    before = torch.get_rng_state()
    seen = [seen_by_student(crops, taught, [view], (), generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert seen[0][1].embeddings is None
    assert torch.equal(seen[0][0], seen[1][0]) and not torch.equal(seen[0][0], seen[2][0])


def test_the_settings_choose_the_views():
    assert student_views(SemiSupervisedSettings()) == [Zoom(1.6)]
    assert student_views(SemiSupervisedSettings(student_zoom=1.0, cutmix=0.5)) == [CutMix(0.5)]
    changed = [CutMix(0.25)(torch.Size((2, 1, 8, 8)), generator(i)) is not None for i in range(400)]
    assert sum(changed) == pytest.approx(100, abs=35)


# ---------------------------------------------------------------------------------------------- cut and paste


@pytest.mark.parametrize("shape", [(16, 20, 24), (30, 40)])
def test_boxes_have_the_share_asked_for_and_lie_inside(shape):
    for share in CutMix(1.0).shares:
        box = random_box(shape, share, generator())
        sides = [part.stop - part.start for part in box]
        assert all(part.start >= 0 and part.stop <= n for part, n in zip(box, shape, strict=True))
        assert math.prod(sides) / math.prod(shape) == pytest.approx(share, rel=0.2)


def test_images_logits_and_embeddings_are_mixed_alike():
    owner = torch.tensor([1.0, 2.0])  # each crop holds its own number everywhere
    images = owner.view(2, 1, 1, 1, 1).expand(2, 1, 16, 16, 16)
    embeddings = torch.nn.functional.one_hot(owner.long(), 3).float()[:, None].expand(2, 64, 3)
    view = CutMix(1.0)
    taught = Taught(images.expand(2, 2, 16, 16, 16), embeddings)
    seen, mixed = seen_by_student(images, taught, [view], (4, 4, 4), generator())
    assert torch.equal(seen.expand(2, 2, 16, 16, 16), mixed.logits)
    share = (seen != images).float().mean()
    assert view.shares[0] * 0.7 < share < view.shares[1] * 1.3
    assert set(seen[0].unique().tolist()) == {1.0, 2.0}
    pooled = torch.nn.functional.avg_pool3d(seen, 4).flatten(1)
    pure = pooled.frac() == 0  # patches that are wholly one crop's
    assert torch.equal(mixed.embeddings.argmax(2)[pure], pooled[pure].long())


def test_a_box_is_pasted_from_the_neighbour():
    maps = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    mixed = paste_box(maps, (slice(0, 2), slice(0, 1)))
    expected = torch.zeros(4, 4)
    expected[:2, :1] = 1
    assert torch.equal(mixed[0, 0], expected) and torch.equal(mixed[1, 0], 1 - expected)

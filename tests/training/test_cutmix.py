"""CutMix pastes the same box into the student's images and into what the teacher said."""

from __future__ import annotations

import pytest
import torch

from nnunet_dycon.training.cutmix import SHARES, cutmix, paste_patches, random_box
from nnunet_dycon.training.step import Crops


@pytest.mark.parametrize("shape", [(16, 20, 24), (30, 40)])
def test_boxes_have_the_share_asked_for_and_lie_inside(shape):
    for share in SHARES:
        box = random_box(shape, share)
        sides = [part.stop - part.start for part in box]
        assert all(part.start >= 0 and part.stop <= n for part, n in zip(box, shape, strict=True))
        volume = torch.tensor(sides).prod() / torch.tensor(shape).prod()
        assert volume == pytest.approx(share, rel=0.2)


def test_images_logits_and_embeddings_are_mixed_alike():
    torch.manual_seed(0)
    labeled, grid = 1, (4, 4, 4)
    owner = torch.tensor([0.0, 1.0, 2.0])  # each crop holds its own number everywhere
    images = owner.view(3, 1, 1, 1, 1).expand(3, 1, 16, 16, 16).clone()
    crops = Crops(images.clone(), labeled, [], images[1:])
    logits, embeddings = cutmix(crops, images.expand(3, 2, 16, 16, 16), owner.view(3, 1, 1).expand(3, 64, 5), grid)
    assert torch.equal(crops.images[:1], images[:1]) and torch.equal(logits[:1], images[:1].expand(1, 2, 16, 16, 16))
    assert torch.equal(crops.images.expand(3, 2, 16, 16, 16), logits)
    share = (crops.images[1:] != images[1:]).float().mean()
    assert SHARES[0] * 0.7 < share < SHARES[1] * 1.3
    assert set(crops.images[1].unique().tolist()) == {1.0, 2.0}
    assert embeddings is not None and embeddings.shape == (3, 64, 5)
    pooled = torch.nn.functional.avg_pool3d(crops.images, 4).flatten(1)
    pure = pooled.frac() == 0  # patches that are wholly one crop's
    assert torch.equal(embeddings[:, :, 0][pure], pooled[pure])


def test_patches_of_a_box_on_a_coarser_grid():
    embeddings = torch.stack([torch.zeros(16, 3), torch.ones(16, 3)])
    mixed = paste_patches(embeddings, (slice(0, 8), slice(0, 4)), (16, 16), (4, 4))
    expected = torch.zeros(4, 4)
    expected[:2, :1] = 1
    assert torch.equal(mixed[0, :, 0].reshape(4, 4), expected)
    assert torch.equal(mixed[1, :, 0].reshape(4, 4), 1 - expected)

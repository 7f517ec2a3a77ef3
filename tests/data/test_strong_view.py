"""The student's view of unlabelled crops: other intensities, the same geometry, the same for every worker."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon.data.strong_view import StrongViewTransform, add_strong_view, strong_view

BOTH = pytest.mark.parametrize("options", [{}, {"inversion": 0.5, "local": 1 / 6}], ids=["default", "all changes"])


@BOTH
def test_appearance_changes_and_geometry_does_not(options):
    torch.manual_seed(0)
    np.random.seed(0)
    image = torch.full((1, 16, 20, 24), -1.0)
    image[:, 4:12, 5:15, 6:18] = 1.0  # a bright box
    image += 0.01 * torch.randn(image.shape)
    transform = ComposeTransforms(strong_view((16, 20, 24), **options))
    views = [transform(image=image.clone())["image"] for _ in range(40)]
    changed = [view for view in views if not torch.equal(view, image)]
    assert len(changed) > 20
    for view in views:
        assert view.shape == image.shape and view.dtype == image.dtype and view.isfinite().all()
    edge = torch.stack([(view[0, 4:12, 10, 12] - view[0, 0, 10, 12]).mean() for view in views])
    assert edge.std() > 0.2  # the box is sometimes bright, sometimes hardly there
    # where the box is visible, its border lies where it was
    borders = [int(view[0, :8, 10, 12].diff().abs().argmax()) for view in views if abs(float(view.std())) > 0.3]
    assert np.median(borders) == 3


@pytest.mark.parametrize("inversion", [0.0, 1.0])
def test_the_changes_of_the_whole_crop_keep_bright_bright(inversion):
    image = torch.randn(1, 12, 12, 12)
    inside = torch.zeros(12, 12, 12, dtype=torch.bool)
    inside[3:9, 3:9, 3:9] = True
    image[0, inside] += 4
    transforms = ComposeTransforms(strong_view((12, 12, 12), inversion=inversion)[:-1])  # without the rectangles
    views = [transforms(image=image.clone())["image"][0] for _ in range(40)]
    assert all(view[inside].median() > view[~inside].median() for view in views)


@BOTH
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 3, 40), (4, 24, 24), (20, 1)])
def test_thin_patches(shape, options):
    transform = ComposeTransforms(strong_view(shape, **options))
    for _ in range(60):
        view = transform(image=torch.randn(1, *shape))["image"]
        assert view.shape == (1, *shape) and view.isfinite().all()


def test_two_dimensions_and_worker_processes():
    transform = ComposeTransforms(strong_view((20, 24), local=0.5))
    pickle.loads(pickle.dumps(transform))
    view = transform(image=torch.randn(2, 20, 24))["image"]
    assert view.shape == (2, 20, 24) and view.isfinite().all()


def test_labelled_crops_are_changed_before_the_labels_are_cleaned():
    scales = ((1, 1, 1), (0.5, 0.5, 0.5))
    plain = nnUNetTrainer.get_training_transforms((16, 20, 24), {"x": (0, 0)}, scales, None, False, [False])
    names = [type(i).__name__ for i in plain.transforms]
    more = add_strong_view(plain, strong_view((16, 20, 24)), 0.5)
    position = [type(i).__name__ for i in more.transforms].index("StrongViewTransform")
    assert [type(i).__name__ for i in more.transforms if not isinstance(i, StrongViewTransform)] == names
    assert names[position].startswith("RemoveLabel")


def test_share_of_labelled_crops_in_the_strong_view():
    plain = ComposeTransforms([RemoveLabelTansform(-1, 0)])
    transform = add_strong_view(plain, strong_view((8, 8, 8)), 0.5)
    labels = torch.randint(0, 2, (1, 8, 8, 8))
    image = torch.randn(1, 8, 8, 8)
    changed = 0
    for _ in range(200):
        crop = transform(image=image.clone(), segmentation=labels.clone())
        assert torch.equal(crop["segmentation"], labels)
        changed += not torch.equal(crop["image"], image)
    assert 30 < changed < 110  # half of them, and of those some get no change by chance

import builtins
import time

import blosc2
import numpy as np
import pytest
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.base.basic_transform import ImageOnlyTransform, SegOnlyTransform
from batchgeneratorsv2.transforms.nnunet.seg_to_onehot import MoveSegAsOneHotToDataTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_dycon.data.strong_view import add_strong_view, strong_view
from nnunet_dycon.data.two_stream_loader import TwoStreamDataLoader, feed, nnUNetUnlabeledDataLoader
from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled
from nnunet_dycon.errors import UserError

LABELS = LabelManager({"background": 0, "ball": 1}, None)


def save_images(folder, shape=(1, 20, 18, 22), count=3, value=None):
    """Preprocessed unlabelled images; case k is filled with k + 1, or ``value``."""
    files = {}
    for k in range(count):
        files[f"case_{k}"] = folder / f"case_{k}.b2nd"
        image = np.full(shape, k + 1 if value is None else value, np.float32)
        blosc2.asarray(image, urlpath=str(files[f"case_{k}"]), mode="w")
    return files


def labeled_loader(folder, patch_size=(8, 8, 8), transforms=None, shape=(1, 20, 18, 22)):
    """nnU-Net's own loader over two labelled cases with one foreground voxel each."""
    for k in range(2):
        seg = np.zeros(shape, np.int16)
        seg[0, 5, 6, 7] = 1
        properties = {"class_locations": {1: np.array([[0, 5, 6, 7]])}}
        data = np.random.default_rng(k).normal(size=shape).astype(np.float32)
        nnUNetDatasetBlosc2.save_case(data, seg, properties, str(folder / f"labeled_{k}"), shape, shape, shape, shape)
    dataset = nnUNetDatasetBlosc2(str(folder), [f"labeled_{k}" for k in range(2)])
    transforms = ComposeTransforms([RemoveLabelTansform(-1, 0)]) if transforms is None else transforms
    return nnUNetDataLoader(dataset, 2, patch_size, patch_size, LABELS, 0.33, transforms=transforms)


@pytest.mark.parametrize("patch_size", [(8, 8, 8), (8, 8)])
def test_a_batch_holds_labelled_and_unlabelled_crops(tmp_path, patch_size):
    (tmp_path / "un").mkdir()
    labeled = labeled_loader(tmp_path, patch_size)
    unlabeled = nnUNetUnlabeledDataLoader(nnUNetDatasetUnlabeled(save_images(tmp_path / "un")), labeled, 3)
    batch = next(TwoStreamDataLoader(labeled, unlabeled))
    assert batch["data"].shape == (2, 1, *patch_size) and batch["target"].shape == (2, 1, *patch_size)
    assert batch["unlabeled"].shape == (3, 1, *patch_size)
    for crop, key in zip(batch["unlabeled"], batch["unlabeled_keys"], strict=True):
        assert set(crop.unique().tolist()) <= {0.0, float(key[-1]) + 1}  # its own case, and padding


def two_streams(folder, **options):
    (folder / "un").mkdir()
    labeled = labeled_loader(folder)
    unlabeled = nnUNetUnlabeledDataLoader(nnUNetDatasetUnlabeled(save_images(folder / "un")), labeled, 1)
    return TwoStreamDataLoader(labeled, unlabeled, **options)


def test_a_batch_holds_unlabelled_crops_only_where_its_step_uses_them(tmp_path):
    loader = two_streams(tmp_path, uses_unlabeled=[True, False, False, True, False], first_step=2)
    augmenter = feed(SingleThreadedAugmenter(None, None), loader)
    batches = [next(augmenter) for _ in range(5)]
    assert [i["step"] for i in batches] == [2, 3, 4, 5, 6]
    assert ["unlabeled" in i for i in batches] == [False, True, False, True, True]


def test_workers_that_run_ahead_make_each_step_its_own_batch(tmp_path):
    uses = [i % 5 == 0 or i > 23 for i in range(40)]
    loader = two_streams(tmp_path, uses_unlabeled=uses, first_step=7)
    make = loader.labeled.generate_train_batch

    def now_and_then_slow():
        time.sleep(np.random.default_rng().choice([0, 0.05]))
        return make()

    loader.labeled.generate_train_batch = now_and_then_slow
    augmenter = feed(NonDetMultiThreadedAugmenter(loader, None, 3, num_cached=4, wait_time=0.002), loader)
    try:
        batches = [next(augmenter) for _ in range(33)]
    finally:
        augmenter._finish()
    assert [i["step"] for i in batches] == list(range(7, 40))
    assert ["unlabeled" in i for i in batches] == uses[7:]


def test_labelled_sampling_is_nnunets(tmp_path):
    (tmp_path / "un").mkdir()
    labeled = labeled_loader(tmp_path)
    unlabeled = nnUNetUnlabeledDataLoader(nnUNetDatasetUnlabeled(save_images(tmp_path / "un")), labeled, 2)
    np.random.seed(3)
    expected = next(labeled)
    np.random.seed(3)
    batch = next(TwoStreamDataLoader(labeled, unlabeled))
    torch.testing.assert_close(batch["data"], expected["data"])
    torch.testing.assert_close(batch["target"], expected["target"])
    assert list(batch["keys"]) == list(expected["keys"])


@pytest.mark.parametrize("anisotropic", [False, True])
def test_unlabelled_crops_go_through_nnunets_augmentation_without_a_segmentation(tmp_path, anisotropic):
    (tmp_path / "un").mkdir()
    transforms = nnUNetTrainer.get_training_transforms(
        np.array([8, 8, 8]),
        (-0.5, 0.5),
        [[1, 1, 1], [0.5, 0.5, 0.5]],
        (0, 1, 2),
        anisotropic,
        use_mask_for_norm=[False],
    )
    with_strong_view = add_strong_view(ComposeTransforms(list(transforms.transforms)), strong_view((8, 8, 8)), 0.5)
    labeled = labeled_loader(tmp_path, transforms=with_strong_view)  # of the labelled crops: not taken over
    unlabeled = nnUNetUnlabeledDataLoader(nnUNetDatasetUnlabeled(save_images(tmp_path / "un")), labeled, 2)
    parts = (unlabeled._geometry, unlabeled._intensity, unlabeled._finish)
    kinds = [type(i) for part in parts for i in part.transforms]
    assert DownsampleSegForDSTransform not in kinds and RemoveLabelTansform not in kinds
    in_nnunet = [type(i) for i in transforms.transforms if not isinstance(i, SegOnlyTransform)]
    assert sorted(kinds, key=str) == sorted(in_nnunet, key=str)
    for _ in range(5):
        assert unlabeled.generate_train_batch()["data"].shape == (2, 1, 8, 8, 8)


def test_the_weak_view_has_the_same_geometry_without_intensity_augmentation(tmp_path):
    class AddOne(ImageOnlyTransform):
        def _apply_to_image(self, img, **params):
            return img.add_(1)

    (tmp_path / "un").mkdir()
    transforms = ComposeTransforms([AddOne(), MirrorTransform((0, 1, 2))])
    labeled = labeled_loader(tmp_path, transforms=transforms)
    image = np.random.default_rng(0).normal(size=(1, 12, 12, 12)).astype(np.float32)
    blosc2.asarray(image, urlpath=str(tmp_path / "un" / "case.b2nd"))
    dataset = nnUNetDatasetUnlabeled({"case": tmp_path / "un" / "case.b2nd"})
    loader = TwoStreamDataLoader(labeled, nnUNetUnlabeledDataLoader(dataset, labeled, 4, weak_view=True))
    batch = next(loader)
    torch.testing.assert_close(batch["unlabeled"], batch["unlabeled_weak"] + 1)
    plain = TwoStreamDataLoader(labeled, nnUNetUnlabeledDataLoader(dataset, labeled, 4))
    assert "unlabeled_weak" not in next(plain)


@pytest.mark.parametrize("patch_size", [(8, 8, 8), (8, 8)])
def test_labels_of_a_previous_stage_move_with_the_image_and_end_as_channels(tmp_path, patch_size):
    class ClearLast(ImageOnlyTransform):
        """Stands for nnU-Net's augmentation of the one-hot channels."""

        def _apply_to_image(self, img, **params):
            img[-1] = 0
            return img

    (tmp_path / "un").mkdir()
    files = {"image": tmp_path / "un" / "image.b2nd", "previous": tmp_path / "un" / "previous.b2nd"}
    labels = np.random.default_rng(0).integers(0, 3, (9, 6, 12), np.uint8)  # narrower than the patch along an axis
    blosc2.asarray(labels[None].astype(np.float32), urlpath=str(files["image"]))
    blosc2.asarray(labels, urlpath=str(files["previous"]))
    axes = tuple(range(len(patch_size)))
    one_hot = MoveSegAsOneHotToDataTransform(source_channel_idx=1, all_labels=[1, 2])
    transforms = ComposeTransforms([MirrorTransform(axes), RemoveLabelTansform(-1, 0), one_hot, ClearLast()])
    labeled = labeled_loader(tmp_path, patch_size, transforms)
    dataset = nnUNetDatasetUnlabeled({"case": files["image"]}, {"case": files["previous"]})
    batch = nnUNetUnlabeledDataLoader(dataset, labeled, 4, weak_view=True).generate_train_batch()
    assert batch["weak"].shape == (4, 3, *patch_size)
    for channel, label in ((1, 1), (2, 2)):
        assert torch.equal(batch["weak"][:, channel], (batch["weak"][:, 0] == label).float())
    assert batch["weak"][:, 1:].any() and not batch["data"][:, 2].any()
    assert torch.equal(batch["data"][:, :2], batch["weak"][:, :2])


def test_outside_the_body_stays_zero_with_mask_normalisation(tmp_path):
    class AddOne(MaskImageTransform):
        """Stands for any augmentation that changes the background."""

        def __init__(self):
            super().__init__([])

        def apply(self, data_dict, **params):
            data_dict["image"] += 1
            return data_dict

    (tmp_path / "un").mkdir()
    image = np.zeros((2, 8, 8, 8), np.float32)
    image[:, :4] = 5
    image[1, 6] = 3  # channel 1 is not masked: it neither makes nor loses body
    file = tmp_path / "un" / "case.b2nd"
    blosc2.asarray(image, urlpath=str(file))
    transforms = ComposeTransforms([AddOne(), MaskImageTransform([0])])
    labeled = labeled_loader(tmp_path, (8, 8, 8), transforms, (1, 8, 8, 8))
    loader = nnUNetUnlabeledDataLoader(nnUNetDatasetUnlabeled({"case": file}), labeled, 1)
    crop = loader.generate_train_batch()["data"][0]
    torch.testing.assert_close(crop[0, :4], torch.full((4, 8, 8), 6.0))
    torch.testing.assert_close(crop[0, 4:], torch.zeros(4, 8, 8))
    torch.testing.assert_close(crop[1], torch.from_numpy(image[1]) + 1)


def test_small_images_are_padded(tmp_path):
    (tmp_path / "un").mkdir()
    files = save_images(tmp_path / "un", (1, 4, 4, 4), 1)
    loader = nnUNetUnlabeledDataLoader(nnUNetDatasetUnlabeled(files), labeled_loader(tmp_path), 1)
    crop = loader.generate_train_batch()["data"]
    assert crop.shape == (1, 1, 8, 8, 8) and crop.sum() == 64


def test_only_the_image_file_of_a_case_is_opened(tmp_path, monkeypatch):
    """A case preprocessed with its label has a segmentation and properties beside its image; neither is touched."""
    labeled = labeled_loader(tmp_path)
    opened = []
    original = blosc2.open
    monkeypatch.setattr(blosc2, "open", lambda urlpath, *a, **k: opened.append(urlpath) or original(urlpath, *a, **k))
    plain_open = builtins.open
    monkeypatch.setattr(builtins, "open", lambda file, *a, **k: opened.append(str(file)) or plain_open(file, *a, **k))
    dataset = nnUNetDatasetUnlabeled({"labeled_0": tmp_path / "labeled_0.b2nd"})
    nnUNetUnlabeledDataLoader(dataset, labeled, 2).generate_train_batch()
    assert {file for file in opened if file.startswith(str(tmp_path))} == {str(tmp_path / "labeled_0.b2nd")}


def test_missing_images_are_an_error_that_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"gone.b2nd. Run .*nnunet-dycon preprocess"):
        nnUNetDatasetUnlabeled({"gone": tmp_path / "gone.b2nd"})

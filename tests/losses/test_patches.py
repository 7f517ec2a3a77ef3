import torch

from nnunet_dycon.losses.patches import patch_labels, pool_to_grid, predicted_labels, regions_to_labels

# a 4 x 4 image of four 2 x 2 patches: pure background, one foreground voxel, half and half, pure class 2
IMAGE = torch.tensor([[[0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 2, 2], [0, 0, 2, 2]]])


def test_majority_wins():
    labels = patch_labels(IMAGE, [0, 1, 2], (2, 2))
    assert labels.tolist()[0][:2] == [0, 0]
    assert labels.tolist()[0][3] == 2


def test_small_foreground_can_be_kept():
    assert patch_labels(IMAGE, [0, 1, 2], (2, 2), foreground_share=0.25).tolist() == [[0, 1, 1, 2]]
    assert patch_labels(IMAGE, [0, 1, 2], (2, 2), foreground_share=0.3).tolist() == [[0, 0, 1, 2]]


def test_impure_patches_carry_no_label():
    assert patch_labels(IMAGE, [0, 1, 2], (2, 2), min_purity=0.8).tolist() == [[0, -1, -1, 2]]


def test_ignored_voxels_do_not_count():
    image = torch.tensor([[[-1, -1, 9, 9], [-1, 1, 9, 9], [0, 0, 1, 1], [0, 9, 0, 9]]])
    assert patch_labels(image, [0, 1], (2, 2), min_purity=0.6).tolist() == [[1, -1, 0, 1]]


def test_patches_follow_the_order_of_the_embeddings():
    volume = torch.arange(8).reshape(1, 2, 2, 2)
    assert patch_labels(volume, range(8), (2, 2, 2)).tolist() == [list(range(8))]
    assert pool_to_grid(volume[:, None].float(), (2, 2, 2))[0, 0].tolist() == list(range(8))


def test_pooling_is_the_mean_of_a_patch():
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert pool_to_grid(maps, (2, 2)).tolist() == [[[2.5, 4.5, 10.5, 12.5]]]


def test_later_regions_overwrite_earlier_ones():
    regions = torch.tensor([[[1, 1, 1, 0]], [[0, 1, 1, 0]], [[0, 0, 1, 0]]]).unsqueeze(0)[:, :, 0]
    assert regions_to_labels(regions[..., None], [1, 2, 3])[..., 0].tolist() == [[1, 2, 3, 0]]


def test_predicted_labels():
    logits = torch.tensor([[4.0, 0.1, -4.0], [0.0, 0.0, 0.0]]).reshape(1, 2, 3, 1)
    assert predicted_labels(logits).flatten().tolist() == [0, 0, 1]
    assert predicted_labels(logits, min_confidence=0.9).flatten().tolist() == [0, -1, 1]
    regions = predicted_labels(torch.stack([logits[0, 0], -logits[0, 0]])[None], class_order=[1, 2])
    assert regions.flatten().tolist() == [1, 1, 2]
    sure = predicted_labels(torch.stack([logits[0, 0], -logits[0, 0]])[None], class_order=[1, 2], min_confidence=0.9)
    assert sure.flatten().tolist() == [1, -1, 2]


def test_predicted_class_is_the_largest_channel():
    logits = torch.randn(2, 5, 6, 7, 8)
    assert torch.equal(predicted_labels(logits), logits.argmax(1))

"""Pictures during training: what they show, and that the training does not notice them."""

import io
import shutil
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from PIL import Image
from torch import nn

from nnunet_dycon.errors import UserError
from nnunet_dycon.pictures import training as pictures
from nnunet_dycon.pictures.canvas import Slice
from nnunet_dycon.pictures.overlay import spread
from nnunet_dycon.pictures.training import Picture, film_strip_figure, views_figure
from nnunet_dycon.settings import SemiSupervisedSettings
from nnunet_dycon.trainers import nnUNetTrainerDyCON
from nnunet_dycon.training.curves import SemiSupervisedLogger
from tests.conftest import UNLABELED
from tests.helpers.training import make_trainer

WRITE_PICTURE = pictures.write_picture  # the fixture "dataset" puts a cheap stand-in there
LENGTH = "max_patches=512,num_epochs=2,num_iterations_per_epoch=2,num_val_iterations_per_epoch=1"


@pytest.fixture(autouse=True)
def without_nnunets_plots(monkeypatch):
    monkeypatch.setattr(SemiSupervisedLogger, "plot_progress_png", lambda self, folder: None)
    monkeypatch.setattr(nnUNetTrainer, "plot_network_architecture", lambda self: None)


@pytest.fixture
def with_pictures(dataset, monkeypatch):
    monkeypatch.setattr(pictures, "write_picture", WRITE_PICTURE)
    return dataset


def train(dataset, monkeypatch, settings):
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},{settings}")
    np.random.seed(0)
    trainer = make_trainer(dataset)
    trainer.run_training()
    return trainer


def state_of(trainer):
    log = trainer.logger.local_logger.my_fantastic_logging
    return (
        {**trainer.network.state_dict(), **trainer.teacher.state_dict()["module"]},
        {key: np.asarray(value, float) for key, value in log.items() if "timestamp" not in key},
        (torch.get_rng_state(), torch.from_numpy(np.random.get_state()[1].astype(np.int64))),
    )


def test_training_is_the_same_with_and_without_pictures(with_pictures, monkeypatch):
    drawn = train(with_pictures, monkeypatch, "picture_every_epochs=5")
    with_state = state_of(drawn)
    folder = drawn.pictures.folder
    names = {file.name for file in folder.iterdir()}
    stems = ("epoch_0000", "epoch_0001")  # every fifth, and the last
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("png", "npz")} | {"film_strip.png"}
    with Image.open(folder / "film_strip.png") as strip, Image.open(folder / "epoch_0001.png") as picture:
        assert np.asarray(strip.convert("L")).std() > 20 and np.asarray(picture.convert("L")).std() > 20
    unlabeled, validation = Picture.load(folder / "epoch_0001.npz").views
    assert unlabeled.title == f"unlabelled\n{UNLABELED[0]}\nslice 12 of axis 0"
    assert unlabeled.reference is None
    assert validation.title.startswith("validation\ncase_") and validation.reference.max() == 1
    shutil.rmtree(with_pictures.results)

    plain = train(with_pictures, monkeypatch, "picture_every_epochs=0")
    assert not plain.pictures.folder.exists()
    weights, log, random_state = state_of(plain)
    for key, value in weights.items():
        assert torch.equal(value, with_state[0][key]), key
    for key, value in log.items():
        np.testing.assert_array_equal(value, with_state[1][key], err_msg=key)
    assert all(torch.equal(a, b) for a, b in zip(random_state, with_state[2], strict=True))


def test_a_failing_picture_is_a_warning(dataset, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "write_picture", full)
    monkeypatch.setattr(pictures, "write_film_strip", full)
    trainer = train(dataset, monkeypatch, "weight_fecl=0")
    assert trainer.current_epoch == 2
    log = next((dataset.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres/fold_0").glob("training_log*"))
    assert "no uncertainty picture of epoch 1: OSError: [Errno 28] No space left" in log.read_text()
    assert "no uncertainty film strip" in log.read_text()


def damaged_pictures(whole):
    """Contents that a file of a picture may have after a full disk, a kill or a bad block."""
    yield from (b"", b"no picture", whole[: len(whole) // 2], whole[:-10])
    rng = np.random.default_rng(0)
    for start in range(0, len(whole) - 40, max(1, len(whole) // 60)):
        yield whole[:start] + rng.bytes(40) + whole[start + 40 :]
    for arrays in ({"epoch": np.zeros(0)}, {"epoch": 0, "highest_entropy": 1.0, "0_title": "a"}):
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        yield stream.getvalue()


def test_damaged_pictures_are_a_warning_at_the_end_of_the_training(tmp_path):
    view = Slice("a", *np.zeros((3, 8, 8)), 0.1)
    Picture(0, 1.0, (view,)).save(tmp_path / "epoch_0000.npz")
    Picture(1, 1.0, (view,)).save(tmp_path / "epoch_0001.npz")
    file = tmp_path / "epoch_0000.npz"
    caught = set()
    for content in damaged_pictures(file.read_bytes()):
        file.write_bytes(content)
        try:
            pictures.load_pictures(tmp_path)
        except pictures.FAILURES as error:
            caught.add(type(error))
    assert {EOFError, TypeError, zipfile.BadZipFile} <= caught


def test_only_the_first_process_draws(dataset, monkeypatch):
    trainer = make_trainer(dataset)
    trainer.initialize()
    trainer.logger.log("dice_per_class_or_region", [0.9], 0)
    drawn = []
    monkeypatch.setattr(nnUNetTrainer, "on_epoch_end", lambda self: None)
    trainer.pictures = SimpleNamespace(after_epoch=lambda epoch, is_last: drawn.append(epoch))
    for rank in (1, 0):
        trainer.local_rank = rank
        trainer.on_epoch_end()
    assert drawn == [0]


def test_checkpoints_from_before_the_setting_load(dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_dycon", "max_patches=512")
    trainer = make_trainer(dataset)
    trainer.initialize()
    trainer.save_checkpoint(str(tmp_path / "old.pth"))
    checkpoint = torch.load(tmp_path / "old.pth", weights_only=False)
    del checkpoint["semi_supervised"]["settings"]["picture_every_epochs"]
    torch.save(checkpoint, tmp_path / "old.pth")
    monkeypatch.setenv("nnUNet_dycon", "picture_every_epochs=7")
    resumed = make_trainer(dataset)
    resumed.load_checkpoint(str(tmp_path / "old.pth"))
    assert resumed.settings.picture_every_epochs == 7 and resumed.settings.max_patches == 512


def test_setting_must_not_be_negative():
    with pytest.raises(UserError, match="picture_every_epochs must be at least 0"):
        SemiSupervisedSettings(picture_every_epochs=-1)


# ------------------------------------------------------------------------------------- what a picture shows


def test_centre_crop():
    image = np.arange(2 * 4 * 6 * 8).reshape(2, 4, 6, 8)
    crop = pictures.centre_crop("a", image, image[:1], (2, 2, 2))
    np.testing.assert_array_equal(crop.image, image[:, 1:3, 2:4, 3:5])
    np.testing.assert_array_equal(crop.reference, image[0, 1:3, 2:4, 3:5])
    flat = pictures.centre_crop("a", image, None, (2, 4))
    np.testing.assert_array_equal(flat.image, image[:, 1, 2:4, 2:6])
    assert flat.reference is None
    larger = pictures.centre_crop("a", image + 1, image[:1] + 1, (8, 6, 8))
    assert (
        larger.image.shape == (2, 8, 6, 8) and (larger.image[:, :2] == 0).all() and (larger.reference[:2] == -1).all()
    )
    np.testing.assert_array_equal(larger.image[:, 2:6], image + 1)


class Dropping(nn.Module):
    """Logits (2, ...) with class 1 where the image is above 0, after dropout."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        return [self.dropout(torch.cat([-images, images], dim=1)), None]


def how(nonlinearity="softmax", order=None):
    return pictures.Reading(nonlinearity, order, torch.device("cpu"), torch.no_grad)


def test_view_shows_the_slice_with_most_reference_and_leaves_network_and_random_state():
    image, reference = torch.full((1, 4, 5, 6), -20.0), np.zeros((4, 5, 6))
    image[0, 3, 1, 2], image[0, 3, 0, 0] = 20.0, 0.0
    reference[3, :2] = 1
    network = Dropping().train()
    before = torch.get_rng_state()
    view = pictures.view_of(pictures.Crop("a", image, reference), network, how(), (3.0, 2.0, 1.0))
    assert torch.equal(torch.get_rng_state(), before) and network.training and network.dropout.training
    np.testing.assert_array_equal(view.reference, reference[3])
    assert np.argwhere(view.prediction == 1).tolist() == [[1, 2]]
    assert view.entropy[0, 0] == pytest.approx(np.log(2)) and view.entropy[1, 2] < 1e-6
    assert view.mean_entropy == pytest.approx(np.log(2) / 120, rel=1e-4)
    assert view.aspect == 2.0
    middle = pictures.view_of(pictures.Crop("a", image, None), network, how(), (3.0, 2.0, 1.0))
    assert middle.reference is None and middle.prediction.max() == 0  # slice 2 of 4


def test_view_of_regions_and_of_a_two_dimensional_crop():
    image = torch.tensor([[-1.0, 1.0]])[None]
    view = pictures.view_of(pictures.Crop("a", image, None), Dropping(), how("sigmoid", [3, 1]), (1.0, 1.0))
    assert view.prediction.tolist() == [[3, 1]]
    p = 1 / (1 + np.exp(1))
    binary = -p * np.log(p) - (1 - p) * np.log(1 - p)
    np.testing.assert_allclose(view.entropy, 2 * binary, rtol=1e-5)


def picture(epoch, title="a", reference=True):
    rng = np.random.default_rng(epoch)
    labels = np.zeros((6, 8), np.int16)
    labels[2:4, 2 : 4 + epoch] = 1
    view = Slice(title, rng.random((6, 8)), labels, rng.random((6, 8)), 0.25, 1.5, labels if reference else None)
    return Picture(epoch, float(np.log(2)), (view, Slice("b", view.image, labels, view.entropy, 0.5)))


def test_pictures_survive_saving(tmp_path):
    saved = picture(3)
    saved.save(tmp_path / "epoch_0003.npz")
    loaded = Picture.load(tmp_path / "epoch_0003.npz")
    assert (loaded.epoch, loaded.highest_entropy, len(loaded.views)) == (3, saved.highest_entropy, 2)
    assert (loaded.views[0].title, loaded.views[0].mean_entropy, loaded.views[0].aspect) == ("a", 0.25, 1.5)
    for name in ("image", "prediction", "entropy", "reference"):
        np.testing.assert_array_equal(getattr(loaded.views[0], name), getattr(saved.views[0], name))
    assert loaded.views[1].reference is None
    assert [i.name for i in tmp_path.iterdir()] == ["epoch_0003.npz"]


def test_pictures_of_an_earlier_training_do_not_get_into_the_film_strip(tmp_path):
    for epoch in (0, 2, 4):
        WRITE_PICTURE(tmp_path, picture(epoch))
    WRITE_PICTURE(tmp_path, picture(2))
    assert sorted(i.name for i in tmp_path.glob("*.png")) == ["epoch_0000.png", "epoch_0002.png"]
    assert [i.epoch for i in pictures.load_pictures(tmp_path)] == [0, 2]
    picture(0, title="another case").save(tmp_path / "epoch_0000.npz")
    assert [i.epoch for i in pictures.load_pictures(tmp_path)] == [2]


def test_figures_have_a_panel_for_everything():
    figure = views_figure(picture(2).views, 0.7, "epoch 2")
    titles = [axis.get_title() for axis in figure.axes[:3]]
    assert titles == ["image", "prediction", "entropy"] and len(figure.axes) == 2 * 3 + 1
    strip = film_strip_figure([picture(i) for i in (0, 1, 2)])
    assert [i.get_title() for i in strip.axes if i.get_title()] == ["epoch 0", "epoch 1", "epoch 2"]
    assert len(strip.axes) == 3 * 4 + 1
    assert {i.get_clim() for axis in strip.axes for i in axis.images if i.get_cmap().name == "magma"} == {
        (0.0, float(np.log(2)))
    }
    assert spread(range(100), 4) == [0, 33, 66, 99] and spread([1, 2], 4) == [1, 2]
    with pytest.raises(ValueError, match="different cases"):
        film_strip_figure([picture(0), picture(1, title="c")])


def test_each_class_of_the_reference_has_a_contour():
    labels = np.zeros((6, 8), np.int16)
    labels[2:4, 2:4], labels[2:4, 4:6] = 1, 2
    view = Slice("a", np.random.default_rng(0).random((6, 8)), labels, labels / 2, 0.5, reference=labels)
    figure = views_figure([view, replace(view, prediction=labels * 0, reference=None)], 1.0, "")
    assert [len(axis.collections) for axis in figure.axes[:3]] == [0, 4, 0]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["reference", "prediction", "class 1", "class 2"]


def test_ignored_voxels_are_no_reference():
    image, labels = np.zeros((1, 4, 4, 4), np.float32), np.array([0, 1, 2, -1] * 16).reshape(1, 4, 4, 4)
    unlabeled = SimpleNamespace(identifiers=["u"], load_image=lambda name: image, load_previous=lambda name: None)
    validation = SimpleNamespace(identifiers=["v"], load_case=lambda name: (image, labels, None, {}))
    first, second = pictures.fixed_crops(unlabeled, validation, (4, 4, 4), [1])
    assert first.reference is None
    np.testing.assert_array_equal(second.reference, labels[0] == 1)
    assert second.title == "validation\nv"
    again = pictures.fixed_crops(unlabeled, validation, (4, 4, 4), [1], trained=["u", "v"])
    assert [crop.title for crop in again] == ["unlabelled\nu", "trained on\nv"]


def test_nothing_to_draw_is_no_film_strip(tmp_path):
    assert pictures.write_film_strip(tmp_path / "missing") is None


def test_the_network_that_predicts_is_drawn(dataset, monkeypatch):
    for name, attribute in (("teacher", "teacher_network"), ("student", "network")):
        monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},weight_fecl=0,predict_with={name}")
        trainer = make_trainer(dataset, nnUNetTrainerDyCON)
        trainer.initialize()
        assert trainer.predicting_network() is getattr(trainer, attribute)

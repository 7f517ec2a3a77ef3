"""The added panels of progress.png: what they show, and how often they are drawn."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from nnunet_dycon.training.curves import SemiSupervisedLogger
from tests.helpers.training import make_trainer, without_plots  # noqa: F401


def test_progress_png_has_the_added_panels(dataset):
    trainer = make_trainer(dataset)
    trainer.run_training()
    folder = dataset.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres" / "fold_0"
    with Image.open(folder / "progress.png") as image:
        assert image.width == 3000 and image.height == 5400 + 1800
        added = np.asarray(image.convert("RGB"))[5400:]
    for quarter in (added[y : y + 900, x : x + 1500] for y in (0, 900) for x in (0, 1500)):
        assert (quarter == (0, 114, 178)).all(-1).any()  # a curve in the first colour
    logger = trainer.logger.local_logger
    panels = {axis.get_ylabel(): axis for axis in logger.panels().axes}
    curves = {
        "loss": ["train_losses", "dice", "uncl", "fecl"],  # mse is off by default
        "ramp-up, beta": ["ramp_up", "beta"],
        "entropy [nats], patch share": [
            "student_entropy", "teacher_entropy", "patch_share_unlabeled", "patch_share_foreground",
        ],
        "pseudo Dice": ["student_mean_fg_dice", "teacher_mean_fg_dice"],
    }  # fmt: skip
    assert panels.keys() == curves.keys()
    for title, names in curves.items():
        assert [text.get_text() for text in panels[title].get_legend().get_texts()] == names
        for line, name in zip(panels[title].lines, names, strict=True):
            assert line.get_label() == name
            np.testing.assert_array_equal(line.get_ydata(), logger.my_fantastic_logging[name])
    assert not [i for i in folder.iterdir() if "partial" in i.name or "tmp" in i.name]


def test_progress_png_takes_a_hundredth_of_the_time(monkeypatch):
    clock, drawn, logger = SimpleNamespace(now=1000.0), [], SemiSupervisedLogger(("uncl",), {})
    losses = logger.my_fantastic_logging["train_losses"]

    def two_seconds(file):
        drawn.append(len(losses))
        clock.now += 2

    monkeypatch.setattr("nnunet_dycon.training.curves.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr("nnunet_dycon.training.curves.LocalLogger.plot_progress_png", lambda self, folder: None)
    monkeypatch.setattr(logger, "add_panels", two_seconds)
    for _ in range(20):
        losses.append(0.0)
        clock.now += 30
        logger.plot_progress_png("")
    assert drawn == [1, 8, 15]  # 200 s are seven epochs
    for _ in range(2):
        logger.plot_last_progress_png("")
    assert drawn == [1, 8, 15, 20]

"""The added panels of progress.png: what they show, and how often they are drawn."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from nnunet_dycon.pictures import canvas
from nnunet_dycon.training.curves import SemiSupervisedLogger
from tests.helpers.training import make_trainer, without_plots  # noqa: F401


def test_progress_png_has_the_added_panels(dataset):
    trainer = make_trainer(dataset)
    trainer.run_training()
    folder = dataset.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres" / "fold_0"
    with Image.open(folder / "progress.png") as image:
        assert image.width == 3000 and image.height == 5400 + 4 * 1800  # panels as large as nnU-Net's
    logger = trainer.logger.local_logger
    panels = {axis.get_ylabel(): axis for axis in logger.panels().axes}
    curves = {
        "loss": {  # mse is off by default
            "supervised loss, labelled crops": "train_losses", "consistency Dice loss": "dice", "UnCL loss": "uncl",
            "FeCL loss": "fecl",
        },
        "ramp-up, beta": {"ramp_up": "ramp_up", "beta": "beta"},
        "entropy [nats], patch share": {
            i: i for i in ("student_entropy", "teacher_entropy", "patch_share_unlabeled", "patch_share_foreground")
        },
        "pseudo Dice": {"student": "student_mean_fg_dice", "teacher": "teacher_mean_fg_dice"},
    }  # fmt: skip
    assert panels.keys() == curves.keys()
    for title, names in curves.items():
        assert [text.get_text() for text in panels[title].get_legend().get_texts()] == list(names)
        for line, (label, name) in zip(panels[title].lines, names.items(), strict=True):
            assert line.get_label() == label
            np.testing.assert_array_equal(line.get_ydata(), logger.my_fantastic_logging[name])
            network = name.partition("_")[0]
            colour = {"student": canvas.STUDENT, "teacher": canvas.TEACHER}.get(network)
            assert colour in (None, line.get_color()) and (
                colour or line.get_color() not in (canvas.STUDENT, canvas.TEACHER)
            )
    logger.validates_on_training_cases = True
    assert logger.panels().axes[-1].get_ylabel() == "pseudo Dice (of cases that are trained on)"
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

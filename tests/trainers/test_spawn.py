"""Worker processes that are spawned, as on Windows and macOS: they get everything by pickling."""

import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import torch

from nnunet_dycon.data.two_stream_loader import TwoStreamDataLoader
from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled
from tests.conftest import LABELED, UNLABELED
from tests.helpers.training import make_trainer, without_plots  # noqa: F401


def loader_of(dataset):
    trainer = make_trainer(dataset)
    trainer.initialize()
    return trainer.get_dataloaders()[0].data_loader


def first_batch(loader):
    np.random.seed(3)
    torch.manual_seed(3)
    return next(loader)


def send_first_batch(loader, connection):
    """In the spawned process: a batch, and who made it."""
    batch = {key: np.asarray(value) for key, value in first_batch(loader).items() if key != "target"}
    connection.send((batch, type(loader).__name__, multiprocessing.current_process().name))


def test_a_spawned_worker_makes_the_same_batch(dataset, monkeypatch):
    context = multiprocessing.get_context("spawn")
    monkeypatch.setattr(multiprocessing, "Value", context.Value)  # as where spawn is the default
    loader = loader_of(dataset)
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=send_first_batch, args=(loader, there))  # as nnU-Net's augmenter hands it over
    worker.start()
    batch, name, process = here.recv()
    worker.join()
    assert name == TwoStreamDataLoader.__name__ and process.startswith("SpawnProcess")
    loader.restart()
    expected = first_batch(loader)
    assert set(batch["keys"]) <= set(LABELED) and set(batch["unlabeled_keys"]) <= set(UNLABELED)
    assert list(batch["unlabeled_keys"]) == list(expected["unlabeled_keys"])
    assert all(np.array_equal(batch[key], expected[key]) for key in ("unlabeled", "data"))


def test_the_unlabelled_dataset_is_pickled_without_its_images(dataset):
    folder = dataset.preprocessed / "nnUNetPlans_3d_fullres_unlabeled"
    data = nnUNetDatasetUnlabeled({case: folder / f"{case}.b2nd" for case in UNLABELED})
    data.load_image(UNLABELED[0])
    text = pickle.dumps(data)
    assert len(text) < 2000
    assert pickle.loads(text).load_image(UNLABELED[1]).shape == (1, 24, 24, 24)


TRAINING = """
import multiprocessing
import torch

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    from nnunetv2.run.run_training import get_trainer_from_args
    from nnunet_dycon.training.curves import SemiSupervisedLogger
    SemiSupervisedLogger.plot_progress_png = lambda self, folder: None
    get_trainer_from_args("901", "3d_fullres", 0, "nnUNetTrainerDyCON", device=torch.device("cpu")).run_training()
"""


def test_training_with_spawned_workers(dataset, tmp_path, monkeypatch):
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert "Training done." in run.stdout
    fold = dataset.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres" / "fold_0"
    assert torch.load(fold / "checkpoint_final.pth", weights_only=False)["semi_supervised"]["step"] == 2

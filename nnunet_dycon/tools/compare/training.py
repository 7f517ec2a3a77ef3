"""The training of a job: nnU-Net's own loop, with checkpoints for the curve, and an exact continuation."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon.files.json_files import read_json, write_json
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.models.checkpoints import load_torch_file
from nnunet_dycon.training.resume import get_random_state, set_random_state

SAVE_EVERY_S = 300
_FIX = "remove the job's folder, and it is done anew"
PARENT = "nnunet_dycon_compare"
"""Environment variable with the process that started this one: a job does not outlive it."""


def train(trainer: nnUNetTrainer, folder: Path, *, save_after: list[int], bfloat16: bool) -> dict[str, float]:
    """Train a new trainer to the end, from the last checkpoint if there is one.

    Args:
        folder: Where training.json and the state of the last checkpoint lie.
        save_after: Epochs after which a checkpoint is kept as ``checkpoint_epochN.pth``.

    Returns:
        The seconds that training took, the peak of the memory in bytes and the last loss on the labelled crops.
    """
    result = folder / "training.json"
    if not result.is_file():
        training = _Training(trainer, folder, save_after)
        trainer.initialize()
        if bfloat16:
            compute_in_bfloat16(trainer)
        training.load()
        trainer.run_training()
        losses = trainer.logger.local_logger.my_fantastic_logging["train_losses"]
        values = {"seconds": time.time() - training.start, "peak_memory_bytes": _peak_memory_bytes(trainer.device)}
        write_json(values | {"train_loss": float(losses[-1])}, result)
    return read_json(result, _FIX)


class _Training:
    """Puts itself around the trainer's hooks."""

    def __init__(self, trainer: nnUNetTrainer, folder: Path, save_after: list[int]) -> None:
        self.trainer, self.folder, self.save_after = trainer, folder, save_after
        self.start = self.saved = time.time()
        self.state: dict[str, Any] = {}
        self.on_train_start, self.on_epoch_end = trainer.on_train_start, trainer.on_epoch_end
        self.save_checkpoint = trainer.save_checkpoint
        trainer.on_train_start, trainer.on_epoch_end = self.start_training, self.end_epoch
        trainer.save_checkpoint = self.save

    def load(self) -> None:
        """Continue from the checkpoint, with the random numbers that would have come.

        Raises:
            UserError: The checkpoint or its state is damaged.
        """
        files = [Path(self.trainer.output_folder) / f"checkpoint_{i}.pth" for i in ("final", "latest")]
        if file := next(filter(Path.is_file, files), None):
            load_torch_file(file, _FIX)
            self.trainer.load_checkpoint(str(file))
            of_epoch, of_any = self._state_file(self.trainer.current_epoch), self.folder / "state.pth"  # formerly
            if state_file := next(filter(Path.is_file, (of_epoch, of_any)), None):
                self.state = load_torch_file(state_file, _FIX)
                self.start -= self.state["seconds"]

    def start_training(self) -> None:
        """nnU-Net's, then the stored random state."""
        self.on_train_start()
        if self.state.get("epoch") == self.trainer.current_epoch:
            set_random_state(self.state["random_state"])

    def end_epoch(self) -> None:
        """nnU-Net's, then the checkpoints."""
        self.on_epoch_end()
        epoch = self.trainer.current_epoch
        if epoch in self.save_after:
            self._save_after_epoch(f"checkpoint_epoch{epoch}.pth")
        is_due = time.time() - self.saved > SAVE_EVERY_S or epoch % self.trainer.save_every == 0
        if is_due and epoch < self.trainer.num_epochs:
            self._save_after_epoch("checkpoint_latest.pth")
            self.saved = time.time()
        if (parent := os.environ.get(PARENT)) and os.getppid() != int(parent):
            sys.exit("the command that started this job has ended")

    def _save_after_epoch(self, name: str) -> None:
        """nnU-Net writes the number of the epoch that comes after the present one."""
        self.trainer.current_epoch -= 1
        self.trainer.save_checkpoint(os.path.join(self.trainer.output_folder, name))
        self.trainer.current_epoch += 1

    def save(self, filename: str) -> None:
        """nnU-Net's checkpoint, whole or not at all; before one to continue from, the state that belongs to it."""
        file, epoch = Path(filename), self.trainer.current_epoch + 1
        continues = file.name in ("checkpoint_latest.pth", "checkpoint_final.pth")
        if continues:
            state = {"epoch": epoch, "random_state": get_random_state(), "seconds": time.time() - self.start}
            with whole(self._state_file(epoch)) as partial:
                torch.save(state, partial)
        with whole(file) as partial:
            self.save_checkpoint(str(partial))
        for other in self.folder.glob("state*.pth") if continues else ():
            if other != self._state_file(epoch):
                other.unlink()

    def _state_file(self, epoch: int) -> Path:
        return self.folder / f"state_{epoch}.pth"


def _peak_memory_bytes(device: torch.device) -> float:
    """Of the device on CUDA, of the process elsewhere; NaN where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def compute_in_bfloat16(trainer: nnUNetTrainer) -> None:
    """Run the networks under bfloat16 autocast on a CPU, as nnU-Net runs them under float16 autocast on CUDA.

    Their outputs stay in bfloat16, so the losses get what CUDA gives them. nnU-Net's own loss reads them as float32:
    softmax and cross entropy are among the operations that autocast does in float32 on CUDA, but not on a CPU.
    """
    branches = [i for name in ("student_branch", "teacher_branch") if (i := getattr(trainer, name, None)) is not None]
    networks = [trainer.network, *(i for branch in branches for i in (branch.network, branch.head) if i is not None)]
    for network in {id(i): i for i in networks}.values():
        network.forward = torch.autocast("cpu", torch.bfloat16)(network.forward)
    loss = trainer.loss

    def in_float32(output: Any, target: Any) -> torch.Tensor:
        return loss([i.float() for i in output] if isinstance(output, (list, tuple)) else output.float(), target)

    trainer.loss = in_float32

"""The trainers, as ``nnUNetv2_train -tr NAME`` finds them, and the base of methods, which is none."""

from typing import Any

from nnunet_dycon.trainers.bcp import nnUNetTrainerBCP
from nnunet_dycon.trainers.co_training import nnUNetTrainerCoTraining, nnUNetTrainerDyCONCoTraining
from nnunet_dycon.trainers.dycon import (
    nnUNetTrainerDyCON,
    nnUNetTrainerMeanTeacherFeCL,
    nnUNetTrainerMeanTeacherUnCL,
)
from nnunet_dycon.trainers.mean_teacher import nnUNetTrainerMeanTeacher
from nnunet_dycon.trainers.semi_supervised import nnUNetTrainerSemiSupervised as nnUNetTrainerSemiSupervised
from nnunet_dycon.trainers.supervised import nnUNetTrainerSupervised
from nnunet_dycon.trainers.variants import variant

__all__ = [
    "nnUNetTrainerBCP",
    "nnUNetTrainerCoTraining",
    "nnUNetTrainerDyCON",
    "nnUNetTrainerDyCONCoTraining",
    "nnUNetTrainerMeanTeacher",
    "nnUNetTrainerMeanTeacherFeCL",
    "nnUNetTrainerMeanTeacherUnCL",
    "nnUNetTrainerSupervised",
]


def __getattr__(name: str) -> Any:
    """A variant such as ``nnUNetTrainerDyCON_50epochs``, made when it is asked for."""
    if (found := variant(name, {i: globals()[i] for i in __all__})) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, found)

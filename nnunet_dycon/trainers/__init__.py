"""The trainers, as ``nnUNetv2_train -tr NAME`` finds them."""

from nnunet_dycon.trainers.co_training import nnUNetTrainerCoTraining, nnUNetTrainerDyCONCoTraining
from nnunet_dycon.trainers.dycon import nnUNetTrainerDyCON
from nnunet_dycon.trainers.mean_teacher import (
    nnUNetTrainerMeanTeacher,
    nnUNetTrainerMeanTeacherFeCL,
    nnUNetTrainerMeanTeacherUnCL,
)
from nnunet_dycon.trainers.semi_supervised import nnUNetTrainerSemiSupervised
from nnunet_dycon.trainers.supervised import nnUNetTrainerSupervised

__all__ = [
    "nnUNetTrainerCoTraining",
    "nnUNetTrainerDyCON",
    "nnUNetTrainerDyCONCoTraining",
    "nnUNetTrainerMeanTeacher",
    "nnUNetTrainerMeanTeacherFeCL",
    "nnUNetTrainerMeanTeacherUnCL",
    "nnUNetTrainerSemiSupervised",
    "nnUNetTrainerSupervised",
]

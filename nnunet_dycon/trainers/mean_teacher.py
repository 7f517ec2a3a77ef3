"""Mean Teacher (Tarvainen & Valpola, 2017) and DyCON with one of its losses: the same trainer, other weights."""

from __future__ import annotations

from dataclasses import replace

from nnunet_dycon.settings import Settings
from nnunet_dycon.trainers.dycon import nnUNetTrainerDyCON


class nnUNetTrainerMeanTeacher(nnUNetTrainerDyCON):
    """Plain Mean Teacher: mean-squared consistency alone, with the same views of the crops."""

    default_settings = replace(Settings(), weight_uncl=0.0, weight_fecl=0.0, weight_dice=0.0, weight_mse=10.0)


class nnUNetTrainerMeanTeacherUnCL(nnUNetTrainerDyCON):
    """Mean Teacher with UnCL; DyCON without FeCL."""

    default_settings = replace(Settings(), weight_fecl=0.0)


class nnUNetTrainerMeanTeacherFeCL(nnUNetTrainerDyCON):
    """Mean Teacher with FeCL; DyCON without UnCL."""

    default_settings = replace(Settings(), weight_uncl=0.0)

"""Trainers that exist by their name, as nnU-Net has them: ``nnUNetTrainerDyCON_50epochs_NoMirroring``."""

from __future__ import annotations

import re
from dataclasses import replace

from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

from nnunet_dycon.trainers.supervised import nnUNetTrainerSupervised

_SUFFIX = re.compile(r"(?P<base>nnUNetTrainer\w+?)_(?:(?P<epochs>[1-9]\d*)epochs?|NoMirroring)")


def variant(name: str, trainers: dict[str, type[nnUNetTrainerSupervised]]) -> type[nnUNetTrainerSupervised] | None:
    """The class of a variant's name (one of ``trainers`` with a suffix or both, in any order), made now; else None."""
    if name in trainers:
        return trainers[name]
    found = _SUFFIX.fullmatch(name)
    base = None if found is None else variant(found["base"], trainers)
    if found is None or base is None:
        return None
    if found["epochs"] is None:
        return type(name, (nnUNetTrainerNoMirroring, base), {"__doc__": f"{base.__name__} without mirroring."})
    settings = replace(base.default_settings, num_epochs=int(found["epochs"]))
    return type(name, (base,), {"__doc__": f"{base.__name__} over other epochs.", "default_settings": settings})

"""Case names: one rule a dataset, so that every spelling of a case in a list or a download gives one name.

=========  ==============================================================  =======================
dataset    spellings                                                       case name
=========  ==============================================================  =======================
la         ``<ID>``, ``LA_<ID>``, ``<ID>/mri_norm2.h5``                    ``LA_<ID>``
pancreas   ``image0001``, ``image0001_norm``, ``PANCREAS_0001``, ``0001``  ``pancreas_0001``
brats19    ``BraTS19_2013_10_1``                                           ``BraTS19_2013_10_1``
isles22    ``sub-strokecase0001``, ``sub-strokecase0001_ses-0001``         ``sub-strokecase0001``
=========  ==============================================================  =======================

Blanks, carriage returns, the ending ``.h5`` and upper or lower case make no difference, except in the BraTS site
and the LA identifier, which are taken as they are.
"""

from __future__ import annotations

import re

from nnunet_dycon.errors import UserError

# dataset -> (what an entry looks like, the case name made from its group "id")
_RULES = {
    "la": (r"(?:LA_)?(?P<id>[A-Z0-9]{20})(?:/mri_norm2)?", "LA_{id}"),
    "pancreas": (r"(?i:image|label|pancreas_)?(?P<id>\d{4})(?i:_norm)?", "pancreas_{id}"),
    "brats19": (r"(?i:BraTS19)_(?P<id>\w+)", "BraTS19_{id}"),
    "isles22": (r"(?i:sub-strokecase)(?P<id>\d{4})(?i:_ses-\d{4})?", "sub-strokecase{id}"),
}

DATASETS = tuple(_RULES)


def case_name(dataset: str, list_entry: str) -> str:
    """The nnU-Net case name of an entry of a published case list, or of a file or folder stem of the download.

    Args:
        dataset: ``la``, ``pancreas``, ``brats19`` or ``isles22``.
        list_entry: A line of a list, e.g. ``image0050`` or ``0001.h5``.

    Raises:
        UserError: The dataset is unknown, or the entry names no case of it.

    Example:
        >>> case_name("pancreas", "image0050_norm.h5")
        'pancreas_0050'
    """
    if dataset not in _RULES:
        raise UserError(f"unknown dataset {dataset!r}; choose one of {', '.join(DATASETS)}")
    pattern, template = _RULES[dataset]
    match = re.fullmatch(pattern, list_entry.strip().removesuffix(".h5"))
    if match is None:
        raise UserError(
            f"{list_entry.strip()!r} names no case of {dataset}; expected an entry like {_example(dataset)}"
        )
    return template.format(id=match["id"])


def _example(dataset: str) -> str:
    return {
        "la": "06SR5RBREL16DQ6M8LWS",
        "pancreas": "image0001, PANCREAS_0001 or 0001",
        "brats19": "BraTS19_2013_10_1",
        "isles22": "sub-strokecase0001",
    }[dataset]

"""A split as a new raw dataset: the masks of its unlabelled cases are not part of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from nnunet_dycon.dataset.raw_dataset import (
    RawDataset,
    check_new_dataset,
    environment_folder,
    link_dataset,
    open_raw_dataset,
)
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.text import few
from nnunet_dycon.files.whole_files import check_writable, whole
from nnunet_dycon.tools.split.division import CasePool, Division, divide
from nnunet_dycon.tools.split.masks import Masks
from nnunet_dycon.tools.split.options import SplitOptions
from nnunet_dycon.tools.split.report import Split


def split_into_new_dataset(
    source_id: int | str,
    target_id: int,
    options: SplitOptions,
    *,
    target_name: str | None = None,
    progress: bool = False,
) -> Split:
    """Make ``nnUNet_raw/Dataset<target_id>_<target_name>`` and its ``splits_final.json`` in nnUNet_preprocessed.

    Labelled and validation cases go to imagesTr and labelsTr, unlabelled ones to imagesUn without their masks, test
    cases to imagesTs and, where the source has masks, labelsTs. Files are hard links where the file system has them,
    else copies. A dataset appears whole or not at all.

    Args:
        source_id: ID or name of a raw dataset that has a mask for every case that needs one.
        target_id: ID that no dataset has.
        options: How to divide.
        target_name: Part of the name after ``DatasetXXX_``; default: the source's with ``_<n>labeled``.
        progress: Show a progress bar.

    Raises:
        UserError: The source is unfit, the target exists, or the division is impossible.
    """
    preprocessed_root = environment_folder("nnUNet_preprocessed")
    source = open_raw_dataset(source_id)
    _check_source(source)
    check_new_dataset(target_id, target_name or "x", "-t")
    for root in (source.folder.parent, preprocessed_root):
        check_writable(root)
    images = {part: source.images(part) for part in ("Tr", "Ts")}
    files = {
        case: source.folder / f"labels{part}" / f"{case}{source.file_ending}"
        for part, cases in images.items()
        for case in cases
    }
    masks = Masks(source, files)
    scans = images["Tr"] | images["Ts"]
    pool = CasePool(source.name, [*images["Tr"]], test=[*images["Ts"]])
    division = divide(pool, options)
    masks.check_there([*division.labeled, *division.validation])
    short_name = target_name or f"{source.name.split('_', 1)[-1]}_{len(division.labeled)}labeled"
    name = f"Dataset{target_id:03d}_{short_name}"
    target, preprocessed = source.folder.parent / name, preprocessed_root / name
    split = Split(
        dataset_name=name, source=source.name, options=options, division=division,
        warnings=[*options.warnings(), *masks.missing_classes(division.folds(options.folds))],
        configuration=options.configuration(flat=masks.content(division.labeled[0])[1]),
        split_file=target / "split.json", splits_final_file=preprocessed / "splits_final.json",
        notes=_notes(division, options, files, source.name),
    )  # fmt: skip
    with ExitStack() as undo:
        with whole(target) as folder:
            content = source.dataset_json | {"name": short_name}
            link_dataset(folder, content, *_parts(division, scans, files), progress=progress)
            write_json(split.record(), folder / "split.json")
            preprocessed.mkdir(parents=True)
            undo.callback(shutil.rmtree, preprocessed, ignore_errors=True)
            write_json(split.folds, split.splits_final_file)
        undo.pop_all()
    return split


def _check_source(source: RawDataset) -> None:
    """What can be known from names alone."""
    if source.images("Un"):
        raise UserError(
            f"{source.name} has unlabelled cases in imagesUn already; give the fully labelled dataset it was made of"
        )
    training, test = source.images("Tr"), source.images("Ts")
    if not training:
        raise UserError(f"{source.folder / 'imagesTr'} has no images CASE_0000{source.file_ending}; nothing to split")
    if both := sorted(set(training) & set(test)):
        raise UserError(f"{source.name} has {few(both)} in imagesTr and in imagesTs; remove one of the two")


def _parts(
    division: Division, scans: Mapping[str, list[Path]], masks: Mapping[str, Path]
) -> tuple[dict[str, dict[str, list[Path]]], dict[str, dict[str, Path]]]:
    """Scans and masks by part of the new dataset."""
    roles = {"Tr": [*division.labeled, *division.validation], "Un": division.unlabeled, "Ts": division.test}
    images = {part: {case: scans[case] for case in cases} for part, cases in roles.items()}
    return images, {part: {i: masks[i] for i in images[part] if masks[i].is_file()} for part in ("Tr", "Ts")}


def _notes(division: Division, options: SplitOptions, masks: Mapping[str, Path], source_name: str) -> list[str]:
    notes = []
    if division.validation:
        notes.append(
            f"fold 0 validates on the {len(division.validation)} validation cases. They lie in imagesTr and labelsTr, "
            "so nnU-Net's fingerprint (spacings, CT intensities) sees them; they are labelled cases that the protocol "
            "allows for model selection. Train fold 0 only: fold 'all' and other folds would train on them"
        )
    elif not options.folds:
        notes.append(
            "there is no validation set: fold 0 trains and validates on the labelled cases, never on test cases"
        )
    if not division.unlabeled:
        notes.append("all training cases are labelled: there is no imagesUn (a fully supervised reference)")
    if without_mask := [case for case in division.test if not masks[case].is_file()]:
        notes.append(f"{len(without_mask)} test cases have no mask in {source_name} and cannot be evaluated")
    if division.left_out:
        notes.append(f"{len(division.left_out)} cases of {source_name} are in none of the sets (see split.json)")
    return notes

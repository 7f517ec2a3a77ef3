"""A raw nnU-Net dataset on disk: its folders, cases and files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2 import paths
from tqdm import tqdm

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object, write_json
from nnunet_dycon.files.text import few
from nnunet_dycon.files.whole_files import link_or_copy


@dataclass(frozen=True)
class RawDataset:
    """``nnUNet_raw/DatasetXXX_Name`` with the content of its dataset.json.

    Parts are nnU-Net's suffixes: ``Tr`` (labelled), ``Un`` (unlabelled), ``Ts`` (test).
    """

    folder: Path
    dataset_json: dict[str, Any]

    @property
    def name(self) -> str:
        """DatasetXXX_Name."""
        return self.folder.name

    @property
    def file_ending(self) -> str:
        """Such as ``.nii.gz``."""
        return self.dataset_json["file_ending"]

    @property
    def n_channels(self) -> int:
        """Number of channels that dataset.json names."""
        return len(channel_names(self.dataset_json))

    def images(self, part: str) -> dict[str, list[Path]]:
        """Channel files of each case in ``images<part>``, as ``scans_in`` has them, without broken links."""
        cases, _ = self._scans(part)
        there = {case: [file for file in files if file.is_file()] for case, files in cases.items()}
        return {case: files for case, files in there.items() if files}

    def strangers(self, part: str) -> list[str]:
        """Names of the files in ``images<part>`` that are no images for nnU-Net; the spacing of TIFF files is none."""
        return [path.name for path in self._scans(part)[1] if path.is_file()]

    def _scans(self, part: str) -> tuple[dict[str, list[Path]], list[Path]]:
        folder = self.folder / f"images{part}"
        return scans_in(folder, self.file_ending) if folder.is_dir() else ({}, [])

    def labels(self, part: str) -> dict[str, Path]:
        """Mask file of each case in ``labels<part>``, sorted by name."""
        return masks_in(self.folder / f"labels{part}", self.file_ending)

    def foreground_values(self) -> list[int]:
        """Mask values that are neither background nor the ignore label."""
        return label_values(self.dataset_json, ignore=False)[1:]

    def preprocessed_folder(self) -> Path | None:
        """Its folder in nnUNet_preprocessed, or None where there is none."""
        root = paths.nnUNet_preprocessed.get()
        folder = Path(root) / self.name if root else None
        return folder if folder is not None and folder.is_dir() else None


def like_images_un(folder: Path) -> str:
    """`` (nothing reads imagesUN there)`` for folders that may be meant for imagesUn; empty where there is none."""
    names = {i.name for i in folder.iterdir() if i.is_dir()} if folder.is_dir() else set()
    near = sorted(i for i in names - {"imagesTr", "imagesTs", "imagesUn"} if re.match("image|.*unl", i.lower()))
    return f" (nothing reads {few(near)} there)" if near else ""


def masks_in(folder: Path, file_ending: str) -> dict[str, Path]:
    """Mask file of each case in a folder, sorted by name; none where there is no folder."""
    files = [path for path in _paths(folder) if path.is_file()] if folder.is_dir() else []
    return {i.name.removesuffix(file_ending): i for i in files if i.name.endswith(file_ending)}


def scans_in(folder: Path, file_ending: str) -> tuple[dict[str, list[Path]], list[Path]]:
    """Paths in a folder that are named ``CASE_0000.nii.gz``, by case and sorted, and those that are named otherwise.

    Hidden files (macOS adds ``._FILE``) and the spacings of TIFF files, ``CASE.json``, are neither. Each
    folder in ``imagesUn`` is a source of scans, such as a site (``imagesUn/site_a/CASE_0000.nii.gz``).

    Raises:
        UserError: a folder cannot be read, or two have files of one case.
    """
    pattern = re.compile(rf"(.+)_\d{{4}}{re.escape(file_ending)}")
    paths = _paths(folder)
    if folder.name == "imagesUn":
        paths += [file for i in paths if i.is_dir() for file in _paths(i)]
    cases: dict[str, list[Path]] = defaultdict(list)
    others: list[Path] = []
    for path in paths:
        match = pattern.fullmatch(path.name)
        (cases[match[1]] if match else others).append(path)
    _check_one_source(cases, folder)
    return dict(sorted(cases.items())), [i for i in others if i.suffix != ".json" or i.stem not in cases]


def _check_one_source(cases: Mapping[str, Sequence[Path]], folder: Path) -> None:
    if twice := [case for case, files in cases.items() if len({file.parent for file in files}) > 1]:
        raise UserError(f"several folders in {folder} have files of {few(twice)}; name every scan differently")


def _paths(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}); see to its permissions") from error


def channel_files(case: str, number: int, file_ending: str) -> list[str]:
    """Names of a case's files: ``CASE_0000.nii.gz``, ..."""
    return [f"{case}_{i:04d}{file_ending}" for i in range(number)]


def channel_names(dataset_json: dict[str, Any]) -> list[str]:
    """Names of the channels; older datasets call them modality."""
    names = dataset_json.get("channel_names", dataset_json.get("modality", {}))
    return [str(name) for name in names.values()]


def label_values(dataset_json: dict[str, Any], *, ignore: bool = True) -> list[int]:
    """All values that a mask may have: 0, those of classes and regions, and of the ignore label if wanted, sorted."""
    found = [value for name, value in dataset_json["labels"].items() if ignore or name != "ignore"]
    return sorted({0}.union(*(map(int, value if isinstance(value, list) else [value]) for value in found)))


def _datasets_of(number: int) -> list[str]:
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    return [str(name) for name in find_candidate_datasets(number)]


def dataset_name(id_or_name: int | str) -> str:
    """DatasetXXX_Name of an ID or a name, as nnU-Net finds it; a UserError where none, or several, have this ID."""
    name = str(id_or_name)
    if name.startswith("Dataset"):
        return name
    found = _datasets_of(int(name)) if name.isdecimal() else []
    if len(found) != 1:
        what = f"several datasets, {', '.join(found)}" if found else "no dataset"
        raise UserError(
            f"-d {name} is {what}; give the number (501) or the name (Dataset501_LA) of one in "
            f"nnUNet_raw={paths.nnUNet_raw.get()} or nnUNet_preprocessed={paths.nnUNet_preprocessed.get()}"
        )
    return found[0]


def check_new_dataset(number: int, name: str, option: str = "-d", *, may_exist: bool = False) -> None:
    """Check that a dataset ``DatasetNNN_Name`` can be made, or with ``may_exist`` is there, whose ID is an ``option``.

    Raises:
        UserError: nnU-Net takes no such ID or name, or another dataset has the ID.
    """
    if not 1 <= number <= 999:
        raise UserError(f"{option} {number} is no dataset ID; nnU-Net takes 1 to 999")
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"--name {name!r} is no part of a folder name; use letters, digits, '_', '-' and '.'")
    if used := set(_datasets_of(number)) - ({f"Dataset{number:03d}_{name}"} if may_exist else set()):
        raise UserError(
            f"{option} {number} is in use by {', '.join(sorted(used))} (in nnUNet_raw, nnUNet_preprocessed or "
            "nnUNet_results); choose another number, or remove that dataset"
        )


def next_free_id(number: int) -> int:
    """The next ID that no dataset has."""
    return next((i for i in range(number + 1, 1000) if not _datasets_of(i)), number + 1)


def environment_folder(variable: str) -> Path:
    """The folder that ``nnUNet_raw`` or another such variable names; a UserError where it is not set."""
    value = getattr(paths, variable).get()
    if not value:
        raise UserError(f"{variable} is not set; export {variable}=FOLDER as for nnU-Net")
    return Path(value)


def open_raw_dataset(id_or_name: int | str) -> RawDataset:
    """The raw dataset of an ID or a name; a UserError where it or its dataset.json is missing, or that lists files."""
    folder = environment_folder("nnUNet_raw") / dataset_name(id_or_name)
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; convert or copy the raw dataset to nnUNet_raw first")
    content = read_dataset_json(folder)
    if "dataset" in content:
        raise UserError(
            f"{folder / 'dataset.json'} lists the files of its cases under 'dataset'; put or link them into imagesTr "
            "and labelsTr and remove that key"
        )
    return RawDataset(folder, content)


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """Content of a folder's dataset.json; a UserError where it is missing, no JSON, or lacks what nnU-Net needs."""
    file = folder / "dataset.json"
    if not file.is_file():
        raise UserError(f"{file} does not exist; write it as nnU-Net's dataset format asks for")
    content = read_json_object(file, "correct it")
    if missing := [key for key in ("labels", "file_ending") if key not in content]:
        raise UserError(f"{file} lacks {' and '.join(missing)}; add it as nnU-Net's dataset format asks for")
    ending, labels = content["file_ending"], content["labels"]
    if not isinstance(ending, str) or not re.fullmatch(r"(\.\w+)+", ending):
        raise UserError(f"{file} has the file_ending {ending!r}; it must be one such as .nii.gz")
    if not isinstance(labels, dict) or not all(isinstance(i, (int, list)) for i in labels.values()):
        raise UserError(f'{file} has labels that are not like {{"background": 0, "tumour": 1}}; correct them')
    return content


def link_dataset(
    folder: Path,
    dataset_json: dict[str, Any],
    files: Mapping[str, Mapping[str, Sequence[Path]]],
    *,
    progress: bool = False,
) -> None:
    """Fill the folder of a new dataset with links to ``files`` of others, by subfolder and case, or copies of them.

    ``dataset_json`` is its own but for numTraining.
    """
    cases = [(subfolder, case, of_case) for subfolder, cases in files.items() for case, of_case in cases.items()]
    for subfolder, case, of_case in tqdm(cases, desc="linking cases", disable=not progress):
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
        spacing = of_case[0].with_name(f"{case}.json")  # of TIFF files
        for file in [*of_case, *([spacing] if spacing.is_file() else [])]:
            link_or_copy(file, folder / subfolder / file.name)
    write_json(dataset_json | {"numTraining": len(files["labelsTr"])}, folder / "dataset.json")

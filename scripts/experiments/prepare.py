"""Make an experiment's nnU-Net raw dataset out of a folder of scans with masks; the last of the list are for testing.

    python scripts/experiments/prepare.py la --source FOLDER --dataset-id 511 --labeled 4
    python scripts/experiments/prepare.py lgg --source FOLDER --dataset-id 521 --all-labeled
    python scripts/experiments/prepare.py lgg --source FOLDER --dataset-id 526 --labeled 5 --new-site DU

FOLDER holds images/CASE.nii.gz, labels/CASE.nii.gz, train.list and, for acdc, val.list. The first ``--labeled``
training cases (acdc: patients, two volumes each) keep their masks, the others go to imagesUn without them;
``--all-labeled`` keeps all of them, for the upper bound. With ``--new-site``, the second part of lgg's case names
(TCGA_DU_...), the labelled cases are of other sites, the unlabelled and test cases of this one. ``PROTOCOLS`` has how
many train and test, and the spacing.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from tqdm import tqdm


@dataclass(frozen=True)
class Protocol:
    """How many cases train and test, and at which spacing in mm (x, y, z); None leaves the scans as they are."""

    train: int
    test: int
    labels: tuple[str, ...]
    spacing_mm: tuple[float, float, float] | None = None
    volumes_a_patient: int = 1


PROTOCOLS = {
    "la": Protocol(60, 20, ("LA",), (3.5, 3.5, 3.5)),
    "lgg": Protocol(60, 20, ("tumor",), (4.0, 4.0, 5.0)),
    "hippocampus": Protocol(160, 40, ("anterior", "posterior")),
    "acdc": Protocol(140, 20, ("RV", "MLV", "LV"), volumes_a_patient=2),
}


def resample(image: sitk.Image, spacing_mm: tuple[float, float, float], is_mask: bool) -> sitk.Image:
    """Resample to a spacing: images smoothed and linear, masks nearest of their smoothed shape; 0/1 masks only."""
    old = image.GetSpacing()
    size = [round(n * s / new) for n, s, new in zip(image.GetSize(), old, spacing_mm, strict=True)]
    smoothed = sitk.Cast(image, sitk.sitkFloat32)
    sigma = [
        max(1e-3, 0.5 * (new**2 - s**2) ** 0.5) if new > s else 1e-3 for s, new in zip(old, spacing_mm, strict=True)
    ]
    smoothed = sitk.DiscreteGaussian(smoothed, [s**2 for s in sigma])
    # the first voxel's outer corner stays where it is
    shift = [(new - s) / 2 for s, new in zip(old, spacing_mm, strict=True)]
    origin = image.TransformContinuousIndexToPhysicalPoint([d / s for d, s in zip(shift, old, strict=True)])
    out = sitk.Resample(
        smoothed, size, sitk.Transform(), sitk.sitkLinear, origin, spacing_mm, image.GetDirection(), 0.0
    )
    return sitk.Cast(out > 0.5, sitk.sitkUInt8) if is_mask else sitk.Cast(out, sitk.sitkFloat32)


def sides(
    source: Path, protocol: Protocol, num_labeled: int | None, new_site: str | None = None
) -> dict[str, list[str]]:
    """Cases of imagesTr, imagesUn and imagesTs."""
    cases = (source / "train.list").read_text().split()
    others = source / "val.list"
    test = others.read_text().split() if others.exists() else cases[-protocol.test :]
    train = [case for case in cases if case not in set(test)][: protocol.train]
    of_site = {case for case in cases if new_site and case.split("_")[1] == new_site}
    known = [case for case in train if case not in of_site]
    labeled = known if num_labeled is None else known[: num_labeled * protocol.volumes_a_patient]
    unlabeled = [case for case in train if case not in set(labeled)]
    if new_site is not None:
        unlabeled, test = ([case for case in part if case in of_site] for part in (unlabeled, test))
    return {"Tr": labeled, "Un": unlabeled, "Ts": test}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=PROTOCOLS)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--dataset-id", type=int, required=True)
    parser.add_argument("--name", help="of the dataset; the set's name by default")
    parser.add_argument("--spacing", type=float, nargs="+", help="in mm, x y z or one for all")
    parser.add_argument("--labeled", type=int, default=8, help="cases with masks, from the start of the list")
    parser.add_argument("--new-site", help="lgg: unlabelled and test cases of this site, labelled ones of others")
    parser.add_argument("--all-labeled", action="store_true", help="give all training cases their masks")
    args = parser.parse_args()
    protocol = PROTOCOLS[args.set]
    spacing_mm = protocol.spacing_mm if args.spacing is None else tuple((args.spacing * 3)[:3])
    folder = Path(os.environ["nnUNet_raw"]) / f"Dataset{args.dataset_id:03d}_{args.name or args.set}"
    cases = sides(args.source, protocol, None if args.all_labeled else args.labeled, args.new_site)
    files = [
        (args.source / kind / f"{name}.nii.gz", folder / f"{kind}{side}" / f"{name}{ending}.nii.gz")
        for side, names in cases.items()
        for name in names
        for kind, ending in (("images", "_0000"), ("labels", ""))
        if (kind, side) != ("labels", "Un")
    ]
    for source, target in tqdm(files, desc="Writing"):
        target.parent.mkdir(parents=True, exist_ok=True)
        image = sitk.ReadImage(str(source))
        if spacing_mm is not None:
            image = resample(image, spacing_mm, target.parent.name.startswith("labels"))
        sitk.WriteImage(image, str(target), useCompression=True)
    labels = {"background": 0} | {label: i + 1 for i, label in enumerate(protocol.labels)}
    generate_dataset_json(str(folder), {0: "MRI"}, labels, len(cases["Tr"]), ".nii.gz")
    print(f"{folder} is written. Next: nnUNetv2_plan_and_preprocess -d {args.dataset_id} -c 3d_fullres")


if __name__ == "__main__":
    main()

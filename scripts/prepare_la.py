"""Make the development dataset out of LA scans: resampled, the last cases of the list held out for testing.

    python scripts/prepare_la.py --source LA_FOLDER --dataset-id 501 --spacing 2.5 --train 60 --labeled 8

LA_FOLDER holds images/CASE.nii.gz, labels/CASE.nii.gz and train.list (cases, in the published order). The first
``--labeled`` of the first ``--train`` cases keep their masks, the rest of these go to imagesUn without them
(``--all-labeled`` keeps all, for the upper bound), the last ``--test`` cases are the test set.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import SimpleITK as sitk
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from tqdm import tqdm


def resample(image: sitk.Image, spacing_mm: float, is_mask: bool) -> sitk.Image:
    """Resample to an isotropic spacing: images smoothed and linear, masks nearest of their smoothed shape."""
    old = image.GetSpacing()
    size = [round(n * s / spacing_mm) for n, s in zip(image.GetSize(), old, strict=True)]
    smoothed = sitk.Cast(image, sitk.sitkFloat32)
    sigma = [max(1e-3, 0.5 * (spacing_mm**2 - s**2) ** 0.5) if spacing_mm > s else 1e-3 for s in old]
    smoothed = sitk.DiscreteGaussian(smoothed, [s**2 for s in sigma])
    # the first voxel's outer corner stays where it is
    shift = [(spacing_mm - s) / 2 for s in old]
    origin = image.TransformContinuousIndexToPhysicalPoint([d / s for d, s in zip(shift, old, strict=True)])
    out = sitk.Resample(
        smoothed, size, sitk.Transform(), sitk.sitkLinear, origin, [spacing_mm] * 3, image.GetDirection(), 0.0
    )
    return sitk.Cast(out > 0.5, sitk.sitkUInt8) if is_mask else sitk.Cast(out, sitk.sitkFloat32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--dataset-id", type=int, required=True)
    parser.add_argument("--name", default="LA")
    parser.add_argument("--spacing", type=float, default=2.5, help="isotropic spacing in mm")
    parser.add_argument("--train", type=int, default=60, help="labelled and unlabelled training cases")
    parser.add_argument("--labeled", type=int, default=8)
    parser.add_argument("--test", type=int, default=20, help="test cases, from the end of the list")
    parser.add_argument("--all-labeled", action="store_true", help="give all training cases their masks")
    args = parser.parse_args()
    cases = (args.source / "train.list").read_text().split()
    folder = Path(os.environ["nnUNet_raw"]) / f"Dataset{args.dataset_id:03d}_{args.name}"
    num_labeled = args.train if args.all_labeled else args.labeled
    sides = {"Tr": cases[:num_labeled], "Un": cases[num_labeled : args.train], "Ts": cases[-args.test :]}
    if args.train + args.test > len(cases):
        parser.error(f"--train {args.train} and --test {args.test} overlap: the list has {len(cases)} cases")
    with tqdm(total=args.train + args.test, desc="Resampling") as bar:
        for side, names in sides.items():
            for name in names:
                for kind, ending in (("images", "_0000"), ("labels", "")):
                    if (kind, side) == ("labels", "Un"):
                        continue
                    (folder / f"{kind}{side}").mkdir(parents=True, exist_ok=True)
                    image = sitk.ReadImage(str(args.source / kind / f"{name}.nii.gz"))
                    target = folder / f"{kind}{side}" / f"{name}{ending}.nii.gz"
                    sitk.WriteImage(resample(image, args.spacing, kind == "labels"), str(target))
                bar.update()
    generate_dataset_json(str(folder), {0: "MRI"}, {"background": 0, "LA": 1}, num_labeled, ".nii.gz")
    print(f"{folder} is written. Next: nnUNetv2_plan_and_preprocess -d {args.dataset_id} -c 3d_fullres")


if __name__ == "__main__":
    main()

"""nnU-Net's commands as messages print them, with the dataset's number and the plans: they run as they stand."""

from __future__ import annotations

PLANS = "nnUNetPlans"
_PLANNERS = {f"nnUNetResEncUNet{size}Plans": f"nnUNetPlannerResEnc{size}" for size in ("M", "L", "XL")}


def number(dataset: int | str) -> str:
    """The number of a dataset given by its number or its name, the only form that nnU-Net's preprocessing takes."""
    text = str(dataset)
    return str(int(text[7:10])) if text.startswith("Dataset") else text


def planning(dataset: int | str, plans: str = PLANS, *options: str) -> str:
    """nnUNetv2_plan_and_preprocess, with the planner of nnU-Net's own plans; others keep their name."""
    if plans in _PLANNERS:
        options = ("-pl", _PLANNERS[plans], *options)
    elif plans != PLANS:
        options = ("-overwrite_plans_name", plans, *options)
    return " ".join(("nnUNetv2_plan_and_preprocess", "-d", number(dataset), *options))


def preprocessing(dataset: int | str, configuration: str, plans: str = PLANS) -> str:
    """nnUNetv2_preprocess."""
    return f"nnUNetv2_preprocess -d {number(dataset)} -c {configuration}{_plans('-plans_name', plans)}"


def unlabeled_preprocessing(dataset: int | str, configuration: str, plans: str = PLANS) -> str:
    """nnunet-dycon preprocess."""
    return f"nnunet-dycon preprocess -d {number(dataset)} -c {configuration}{_plans('-p', plans)}"


def training(
    dataset: int | str,
    configuration: str = "3d_fullres",
    fold: int | str = 0,
    *,
    trainer: str = "nnUNetTrainerDyCON",
    plans: str = PLANS,
) -> str:
    """nnUNetv2_train."""
    return f"nnUNetv2_train {number(dataset)} {configuration} {fold} -tr {trainer}{_plans('-p', plans)}"


def _plans(option: str, plans: str) -> str:
    return "" if plans == PLANS else f" {option} {plans}"

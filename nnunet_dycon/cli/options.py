"""The options that several commands share: one spelling, nnU-Net's, one meaning, one default.

A spelling of former versions is still read, but shown nowhere (``old``).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nnunet_dycon.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch

    from nnunet_dycon.models.trained_model import TrainedModel

CONFIGURATION, PLANS, TRAINER = "3d_fullres", "nnUNetPlans", "nnUNetTrainerDyCON"
CHECKPOINT = "checkpoint_final.pth"


class Parser(argparse.ArgumentParser):
    """argparse's, without abbreviations (it takes ``-d`` for ``-device``), and with the neighbour of a wrong option."""

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        return []  # allow_abbrev=False would leave -d for -device

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [i for action in self._actions for i in action.option_strings]
            wrong = next((i for i in unknown if i.startswith("-")), "")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{did_you_mean(wrong, options)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (all options: {self.prog} -h)")


def add(parser: argparse.ArgumentParser, *names: str, old: Sequence[str] = (), **options: Any) -> argparse.Action:
    """``add_argument``, with spellings of former versions that neither help nor messages show."""
    action = parser.add_argument(*names, *old, **options)
    action.option_strings = list(names)
    return action


def _option(*names: str, **fixed: Any) -> Callable[..., argparse.Action]:
    """A function that declares an option; a command may give it another help, flag, or whatever else differs there."""

    def declare(parser: argparse.ArgumentParser, help: str = "", *, flag: str = "", **own: Any) -> argparse.Action:
        return add(parser, *([flag] if flag else names), **fixed | own | ({"help": help} if help else {}))

    return declare


def declare(parser: argparse.ArgumentParser, *options: Callable[[argparse.ArgumentParser], object]) -> None:
    """Several shared options, as they are."""
    for option in options:
        option(parser)


def fold_name(text: str) -> int | str:
    """A fold's number, or all."""
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no fold; give a number, or all")
    return text if text == "all" else int(text)


def at_least_one(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give at least 1")
    return int(text)


# ------------------------------------------------------------------------------------------ datasets and trainings

dataset = _option("-d", dest="dataset", required=True, metavar="ID", help="dataset, ID or name")
configuration = _option("-c", dest="configuration", default=CONFIGURATION, help="configuration (default: %(default)s)")
configurations = _option(
    "-c", dest="configurations", nargs="+", default=[CONFIGURATION], metavar="CONFIGURATION",
    help=f"configurations (default: {CONFIGURATION})",
)  # fmt: skip
plans = _option("-p", dest="plans", default=PLANS, help="plans identifier (default: %(default)s)")
trainer = _option("-tr", dest="trainer", default=TRAINER, help="trainer (default: %(default)s)")
fold = _option("-f", old=["--fold"], dest="fold", type=fold_name, help="fold, or all (default: 0)")
folds = _option(
    "-f", dest="folds", nargs="+", type=fold_name, metavar="FOLD",
    help="folds that predict together, or all for the fold of that name (default: every finished fold)",
)  # fmt: skip
# -t beside a source, as nnUNetv2_move_plans_between_datasets has it
new_dataset = _option(
    "-d", dest="new_dataset", type=int, required=True, metavar="ID", help="free ID of the new dataset, 1 to 999"
)

# ------------------------------------------------------------------------------------------------- trained models

checkpoint = _option(
    "-chk", dest="checkpoint", default=CHECKPOINT, metavar="NAME", help="file of the weights (default: %(default)s)"
)
disable_tta = _option(
    "--disable_tta", action="store_true", help="do not average over mirrored images; up to 8 times faster, less exact"
)
step_size = _option(
    "-step_size", type=float, default=0.5, help="step of the sliding window in patches (default: %(default)s)"
)
device = _option(
    "-device", choices=("cuda", "cpu", "mps"), help="where to compute (default: cuda where there is one, else cpu)"
)


def model(parser: argparse.ArgumentParser, *, was_positional: bool = False) -> None:
    """``-m``, or ``-d -tr -p -c``, and ``-chk``, for ``opened_model``; in former versions the folder had no name."""
    if was_positional:
        parser.add_argument("former_model", nargs="?", type=Path, help=argparse.SUPPRESS)
    parser.add_argument(
        "-m", dest="model", type=Path, metavar="FOLDER",
        help="trained model, nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION; or name it by -d -tr -p -c",
    )  # fmt: skip
    dataset(parser, "dataset of the model, ID or name", required=False)
    declare(parser, trainer, plans, configuration, checkpoint)


def model_folder(args: argparse.Namespace) -> Path:
    """The folder that ``-m``, or ``-d -tr -p -c``, stands for; whether a model is there is not checked.

    Raises:
        UserError: both or neither are given, or they disagree; no such dataset; nnUNet_results is not set.
    """
    if former := getattr(args, "former_model", None):
        return former
    if (args.model is None) == (args.dataset is None):
        raise UserError("name the model by -m FOLDER, or by -d ID with -tr, -p and -c (one of both)")
    if args.model is not None:
        _check_same_model(args)
        return args.model
    from nnunet_dycon.dataset.raw_dataset import dataset_name, environment_folder

    results = environment_folder("nnUNet_results") / dataset_name(args.dataset)
    return results / f"{args.trainer}__{args.plans}__{args.configuration}"


def _check_same_model(args: argparse.Namespace) -> None:
    """Raise a UserError where ``-m`` is given with a trainer, plans or configuration that its name does not have."""
    names = {name for folder in (args.model, args.model.parent) for name in folder.resolve().name.split("__")}
    asked = (("-tr", args.trainer, TRAINER), ("-p", args.plans, PLANS), ("-c", args.configuration, CONFIGURATION))
    if other := [f"{option} {value}" for option, value, default in asked if value not in {default, *names}]:
        raise UserError(f"-m {args.model} is not of {' '.join(other)}; name the model by one of both")


def opened_model(args: argparse.Namespace) -> TrainedModel:
    """The model, with what the options of the command say of folds, checkpoint, device, step and mirroring.

    Raises:
        UserError: as ``model_folder``, or no such model, fold, checkpoint or device.
    """
    from nnunet_dycon.models.trained_model import open_model

    given = {"step_size": 0.5, "disable_tta": False} | vars(args)
    return open_model(
        model_folder(args),
        args.folds,
        checkpoint_name=args.checkpoint,
        device=chosen_device(args) if "device" in args else None,
        tile_step_size=given["step_size"],
        mirroring=not given["disable_tta"],
    )


def chosen_device(args: argparse.Namespace) -> torch.device:
    """The device of ``-device``, or the best there is; a UserError where it is not there."""
    import torch

    name = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not available[name]:
        raise UserError(f"-device {name}: torch finds none; give -device cpu, or leave it out")
    return torch.device(name)


# ---------------------------------------------------------------------------------------------- processes and files

output = _option("-o", old=["--output"], dest="output", type=Path, metavar="FOLDER")
overwrite = _option("--overwrite", action="store_true")


def processes(parser: argparse.ArgumentParser, *, shown: bool = True) -> None:
    """``-np``, as ``args.num_processes``; not shown where it is only read, as former versions did."""
    default = min(int(os.environ.get("nnUNet_def_n_proc") or 8), os.cpu_count() or 1)
    parser.add_argument(
        "-np", dest="num_processes", type=at_least_one, default=default, metavar="N",
        help="worker processes (default: nnUNet_def_n_proc or 8, at most the cores there are)"
        if shown else argparse.SUPPRESS,
    )  # fmt: skip


def count(parser: argparse.ArgumentParser, default: int, help: str) -> None:
    """``--count``, as ``args.count``."""
    add(
        parser, "--count", old=["-n", "--n"], type=at_least_one, default=default, metavar="N",
        help=f"{help} (default: {default})",
    )  # fmt: skip

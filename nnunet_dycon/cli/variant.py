"""``nnunet-dycon variant``: settings that have a name, so that two of them have two results folders."""

from __future__ import annotations

import argparse

from nnunet_dycon.cli import options

EPILOG = """\
The trainer is written into ~/.nnunet_dycon/trainers (or the folder that nnUNet_dycon_trainers names), which nnU-Net
then searches in every new process: training, prediction and export find it without any variable. Copy the file, or
export the model, for a machine without it.

  nnunet-dycon variant nnUNetTrainerDyCONGentle -tr nnUNetTrainerDyCON weight_fecl=0.05 ramp_start=0.5
  nnUNetv2_train 501 3d_fullres 0 -tr nnUNetTrainerDyCONGentle
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the new trainer's name, such as nnUNetTrainerDyCONGentle")
    options.trainer(parser)
    parser.add_argument("settings", nargs="+", metavar="key=value", help="see nnunet-dycon settings")
    options.overwrite(parser, "replace a variant of this name that has other settings")


def run(args: argparse.Namespace) -> None:
    """Write the trainer and say how to train it."""
    from nnunet_dycon.dataset.commands import training
    from nnunet_dycon.startup.user_trainers import write_trainer

    file = write_trainer(args.name, args.trainer, args.settings, overwrite=args.overwrite)
    print(f"wrote {file}. Next: {training('DATASET', trainer=args.name)}")

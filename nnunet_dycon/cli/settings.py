"""``nnunet-dycon settings``: what a trainer can be told."""

from __future__ import annotations

import argparse

from nnunet_dycon.cli import options

EPILOG = """\
Set them by the environment variable nnUNet_dycon: key=value separated by commas, JSON, or the name of a JSON file; or
give them a trainer of their own by nnunet-dycon variant.

  nnunet-dycon settings -tr nnUNetTrainerMeanTeacher
  nnUNet_dycon="weight_fecl=0.05,num_epochs=200" nnUNetv2_train 501 3d_fullres 0 -tr nnUNetTrainerDyCON
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.trainer(parser)


def run(args: argparse.Namespace) -> None:
    """Print a line for each setting."""
    from nnunet_dycon.files.text import text_table
    from nnunet_dycon.startup.user_trainers import find_trainer

    trainer = find_trainer(args.trainer)
    print(f"Settings of {args.trainer}; paper: by preset=paper\n")
    header = ("setting", "default", "paper", "type", "values", "meaning")
    print(text_table(header, trainer.default_settings.rows(trainer.unused_settings)))

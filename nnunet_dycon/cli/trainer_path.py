"""``nnunet-dycon trainer-path``."""

from __future__ import annotations

import argparse
from pathlib import Path

import nnunet_dycon

EPILOG = """\
For where the start-up hook does not run (python -S).

  export nnUNet_extTrainer=$(nnunet-dycon trainer-path)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes no arguments."""


def run(args: argparse.Namespace) -> None:
    """Print the folder that nnU-Net has to search for trainers."""
    print(Path(nnunet_dycon.__file__).parent / "ext_trainer")

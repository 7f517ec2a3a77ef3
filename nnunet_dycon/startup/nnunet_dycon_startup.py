"""Python start-up hook: lets nnU-Net find the trainers of nnunet-dycon without any set-up.

nnU-Net >= 2.8 looks for trainers in the folders named in ``nnUNet_extTrainer``. This module appends to that variable
the folder of nnunet-dycon and, where there is one, the user's (``nnunet-dycon variant``), keeps what is there, and does
it once. ``nnUNet_dycon_startup=0`` switches it off.
It lies in site-packages beside the .pth file that imports it and must stay free of imports that cost time.
"""

import os
import sys


def extend_ext_trainer(environ=os.environ, search_path=sys.path):
    """Append the trainer folders to ``nnUNet_extTrainer``, unless they are there or the hook is switched off."""
    if environ.get("nnUNet_dycon_startup", "1").lower() in ("0", "false", "f"):
        return
    present = [i for i in environ.get("nnUNet_extTrainer", "").split(os.pathsep) if i]
    folders = [i for i in trainer_folders(environ, search_path) if i not in present]
    if folders:
        environ["nnUNet_extTrainer"] = os.pathsep.join(present + folders)


def trainer_folders(environ, search_path):
    """The package's folder, then the user's, where a broken file harms itself only; none without the package."""
    packages = (os.path.join(entry, "nnunet_dycon", "ext_trainer") for entry in search_path)
    package = next((folder for folder in packages if os.path.isdir(folder)), None)
    if package is None:
        return []
    mine = environ.get("nnUNet_dycon_trainers") or os.path.join(os.path.expanduser("~"), ".nnunet_dycon", "trainers")
    return [package, mine] if os.path.isdir(mine) else [package]


extend_ext_trainer()

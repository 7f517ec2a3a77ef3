"""Python start-up hook: lets nnU-Net find the trainers of nnunet-dycon without any set-up.

nnU-Net >= 2.8 looks for trainers in the folders named in ``nnUNet_extTrainer``. This module appends the folder of
nnunet-dycon to that variable, keeps what is there, and does it once. ``nnUNet_dycon_startup=0`` switches it off.
It lies in site-packages beside the .pth file that imports it and must stay free of imports that cost time.
"""

import os
import sys


def extend_ext_trainer(environ=os.environ, search_path=sys.path):
    """Append the trainer folder to ``nnUNet_extTrainer``, unless it is there or the hook is switched off."""
    if environ.get("nnUNet_dycon_startup", "1").lower() in ("0", "false", "f"):
        return
    for entry in search_path:
        folder = os.path.join(entry, "nnunet_dycon", "ext_trainer")
        if os.path.isdir(folder):
            present = [i for i in environ.get("nnUNet_extTrainer", "").split(os.pathsep) if i]
            if folder not in present:
                environ["nnUNet_extTrainer"] = os.pathsep.join([*present, folder])
            return


extend_ext_trainer()

"""What nnU-Net finds in ``nnUNet_extTrainer``: the trainers of nnunet-dycon and, by ``__getattr__``, their variants.

nnU-Net forgets the modules it imports from this folder, so nothing may be defined here.
"""

from nnunet_dycon.startup.nnunet_process import prepare
from nnunet_dycon.trainers import *  # noqa: F403
from nnunet_dycon.trainers import __getattr__  # noqa: F401

prepare()

"""What nnU-Net finds in ``nnUNet_extTrainer``: the trainers of nnunet-dycon, re-exported.

nnU-Net forgets the modules it imports from this folder, so nothing may be defined here.
"""

from nnunet_dycon.trainers import *  # noqa: F403

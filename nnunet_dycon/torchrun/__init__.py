"""Training on several nodes: nnU-Net's own training command in each process that torchrun starts.

    torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500 \\
        -m nnunet_dycon.torchrun DATASET 3d_fullres 0 -tr nnUNetTrainerDyCON

The arguments are those of ``nnUNetv2_train``, without -num_gpus. The folders of nnU-Net must be shared by all nodes.
"""

from __future__ import annotations

import os
import sys

import torch
from nnunetv2.run.run_training import run_training_entry
from torch import distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record

from nnunet_dycon.errors import UserError


@record  # torchrun then names the process that failed and its error, and ends the others
def main() -> None:
    """Join the process group, choose the GPU by local rank, and train.

    Raises:
        UserError: not started by torchrun, or with -num_gpus.
    """
    if "LOCAL_RANK" not in os.environ:
        raise UserError("start it with torchrun: torchrun --nproc_per_node GPUS -m nnunet_dycon.torchrun DATASET ...")
    if "-num_gpus" in sys.argv:
        raise UserError("-num_gpus starts processes of its own; with torchrun, --nproc_per_node says how many")
    on_gpus = torch.cuda.is_available() and "cpu" not in sys.argv  # -device cpu
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpus else "gloo")
    try:
        run_training_entry()
    finally:
        dist.destroy_process_group()

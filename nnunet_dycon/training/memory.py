"""What to do when a training does not fit into a GPU's memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nnunet_dycon.errors import UserError


@contextmanager
def out_of_memory_explained(unlabeled: int) -> Iterator[None]:
    """Inside, an error of CUDA's allocator becomes a UserError; ``unlabeled`` crops in a batch can become fewer."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        fewer = f"nnUNet_dycon=unlabeled_batch_size=1 (now {unlabeled}), or " if unlabeled > 1 else ""
        raise UserError(
            "the GPU's memory does not suffice for this training. Cheapest first: end what else runs on the GPU, train "
            f"with {fewer}a smaller plan (nnUNetv2_plan_experiment -d ID -gpu_memory_target GIGABYTES "
            f"-overwrite_plans_name NAME, then -p NAME). CUDA said: {str(error).partition(' GPU ')[0]}"
        ) from error

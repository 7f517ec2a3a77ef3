"""How hard each loss of a trained model pulls at the student, next to nnU-Net's own loss.

nnUNet_results=RESULTS python scripts/experiments/gradient_shares.py -d 521 -c 3d_fullres -p F16 -f all
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from torch.nn.functional import cosine_similarity

from nnunet_dycon.training.step import Crops


def gradients(trainer, crops: Crops) -> dict[str, torch.Tensor]:
    """Gradient of each loss with its weight over the student's weights, (weights,), of one batch."""
    (losses,) = trainer.losses(crops)
    weighted = {name: trainer.settings.weight(name) * loss for name, loss in losses.others.items()}
    everything = {"supervised": losses.supervised, **weighted}
    return {name: gradient(loss, trainer.network) for name, loss in everything.items()}


def gradient(loss: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
    """Gradient over all weights of a network, (weights,)."""
    weights = list(network.parameters())
    parts = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
    return torch.cat([i.flatten() for i in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True, help="dataset ID")
    parser.add_argument("-c", required=True, help="configuration")
    parser.add_argument("-p", default="nnUNetPlans")
    parser.add_argument("-f", default="all")
    parser.add_argument("-tr", default="nnUNetTrainerDyCON")
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--checkpoint", default="checkpoint_final.pth")
    parser.add_argument("--batches", type=int, default=20)
    args = parser.parse_args()
    fold = args.f if args.f == "all" else int(args.f)
    trainer = get_trainer_from_args(args.d, args.c, fold, args.tr, args.p, device=torch.device(args.device))
    trainer.load_checkpoint(str(Path(trainer.output_folder) / args.checkpoint))
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.network.train()
    loader, _ = trainer.get_dataloaders()
    rows = []
    for _ in range(args.batches):
        pulls = gradients(trainer, Crops.from_batch(next(loader), trainer.device, with_unlabeled=True))
        ours, reference = pulls["supervised"].norm(), pulls.get("dice")
        for name, pull in pulls.items():
            cosine = float("nan") if reference is None else cosine_similarity(pull, reference, dim=0).item()
            rows.append({"loss": name, "length / supervised": (pull.norm() / ours).item(), "cosine with dice": cosine})
    print(pd.DataFrame(rows).groupby("loss", sort=False).median().round(3).to_string())


if __name__ == "__main__":
    main()

"""Measure what semi-supervised training costs: losses, a step, loading, and how all of it grows.

    python scripts/benchmarks/benchmark.py losses gradients     # need no data
    python scripts/benchmarks/benchmark.py step loader pictures -d 901 -p nnUNetPlans_quickstart [-device cuda]
    python scripts/benchmarks/benchmark.py cases            # 10 to 10,000 made-up unlabelled cases

Those need a planned and preprocessed dataset with unlabelled cases (scripts/quickstart.sh makes one). What is compared
is measured in turn, and the median is taken. Peak memory is what a call adds to the resident set or CUDA's allocator.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from nnunet_dycon.losses import FeCLoss, UnCLoss, consistency_dice, consistency_mse

STAGES = ("student", "teacher", "losses", "EMA")
SHORTEST_TURN_S = 0.05
NO_LOSSES = "weight_uncl=0,weight_fecl=0,weight_dice=0"
STEPS = {
    "unlabelled crops": ("ramp_start=0", 7 / 3),
    "all crops": ("ramp_start=0,teach_labeled=true", 8 / 3),
    "nothing yet (ramp-up 0)": ("ramp_start=1", 1),
}
"""What the teacher sees: settings, and what the networks alone cost next to nnU-Net's step."""


# ---------------------------------------------------------------------------------------------------- measuring


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def medians(calls: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, float]:
    """Median seconds of each call, the calls taken in turn; a short one is made several times in its turn."""
    for call in calls.values():
        call()
    numbers = {name: max(1, round(SHORTEST_TURN_S / seconds_of(call, device))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            number = numbers[name]
            turn_s = seconds_of(lambda: [call() for _ in range(number)], device)  # noqa: B023
            times[name].append(turn_s / number)
    return {name: statistics.median(i) for name, i in times.items()}


def peak_mib(call: Callable[[], object], device: torch.device) -> float:
    """Memory that a call needs on top of what is there before it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # give freed memory back, so that the call has to ask for its own
    Path("/proc/self/clear_refs").write_text("5")  # forget the former peak (Linux)
    before = status_kib("VmRSS")
    call()
    return (status_kib("VmHWM") - before) / 2**10


def status_kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def table(title: str, rows: list[dict]) -> None:
    print(f"\n{title}\n")
    header = list(rows[0])
    cells = [[f"{i:.3g}" if isinstance(i, float) else str(i) for i in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    for line in (header, ["-" * w for w in widths], *cells):
        print("| " + " | ".join(i.ljust(w) for i, w in zip(line, widths, strict=True)) + " |")


# ------------------------------------------------------------------------------------------------------- losses


def plain_uncl(student: torch.Tensor, teacher: torch.Tensor, beta: float) -> torch.Tensor:
    """UnCL as the formula reads."""
    p, q = F.softmax(student, dim=1), F.softmax(teacher, dim=1)
    h_s = -(p * torch.log(p + 1e-6)).sum(1, keepdim=True)
    h_t = -(q * torch.log(q + 1e-6)).sum(1, keepdim=True)
    consistency = ((p - q) ** 2 / (torch.exp(beta * h_s) + torch.exp(beta * h_t))).sum(1)
    return consistency.mean() + beta * (h_s + h_t).mean()


def plain_fecl(z: torch.Tensor, labels: torch.Tensor, tau: float = 0.6, gamma: float = 2.0) -> torch.Tensor:
    """FeCL without teacher as the formula reads, with its N x N matrices."""
    similarity = z @ z.transpose(1, 2)
    same = labels[:, :, None] == labels[:, None, :]
    other = (~same).to(z.dtype)
    positive = (same & ~torch.eye(z.shape[1], dtype=torch.bool, device=z.device)).to(z.dtype)
    hard_negatives = ((1 + similarity) / 2) ** gamma
    exponential = torch.exp(similarity / tau)
    push = (hard_negatives * exponential * other).sum(-1, keepdim=True)
    p = exponential / (exponential + push)
    terms = -((1 - p) ** gamma) * torch.log(p) * positive
    return (terms.sum(-1) / positive.sum(-1).clamp(min=1)).mean()


def forward_backward(loss: Callable[..., torch.Tensor], *arguments) -> Callable[[], torch.Tensor]:
    def call() -> torch.Tensor:
        leaf = arguments[0].detach().requires_grad_()
        value = loss(leaf, *arguments[1:])
        value.backward()
        return value.detach()

    return call


def benchmark_losses(args: argparse.Namespace) -> dict:
    device, rows = torch.device(args.device), []
    for n in (256,) if args.small else (256, 1024, 4096):
        z = F.normalize(torch.randn(2, n, 128, device=device), dim=-1)
        labels = (torch.rand(2, n, device=device) < 0.2).long()
        for name, compiled in (("FeCL", False), ("FeCL compiled", True))[: 2 if args.device == "cuda" else 1]:
            loss = FeCLoss(compiled=compiled)
            calls = {"ours": forward_backward(loss, z, labels), "plain": forward_backward(plain_fecl, z, labels)}
            rows.append(compared(f"{name}, B 2, D 128", f"N {n}", calls, device, args.repeats))
    for size in (32,) if args.small else (32, 64, 96):
        student, teacher = torch.randn(2, 2, 2, size, size, size, device=device)
        calls = {
            "ours": forward_backward(UnCLoss(), student, teacher, 2.0),
            "plain": forward_backward(plain_uncl, student, teacher, 2.0),
        }
        rows.append(compared("UnCL, B 2, C 2", f"{size}^3", calls, device, args.repeats))
    table("Losses, forward and backward", rows)
    return {"losses": rows}


def compared(loss: str, size: str, calls: dict, device: torch.device, repeats: int) -> dict:
    difference = abs(float(calls["ours"]() - calls["plain"]()))
    seconds = medians(calls, device, repeats)
    memory = {name: peak_mib(call, device) for name, call in calls.items()}
    return {
        "loss": loss,
        "size": size,
        "ours [ms]": 1e3 * seconds["ours"],
        "plain [ms]": 1e3 * seconds["plain"],
        "faster": seconds["plain"] / seconds["ours"],
        "ours [MiB]": memory["ours"],
        "plain [MiB]": memory["plain"],
        "less memory": memory["plain"] / max(memory["ours"], 0.1),
        "difference": difference,
    }


def benchmark_gradients(args: argparse.Namespace) -> dict:
    """Gradients of float16 logits at a real crop's size, as a gradient scaler asks for them, against float32."""
    shape, rows = [16] * 3 if args.small else [112, 112, 80], []
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn((2, 4, *[i // 8 for i in shape]), generator=generator)
    maps = F.interpolate(coarse, size=shape, mode="trilinear").half().to(args.device)
    teacher, student = 4 * maps[:, :2], 4 * maps[:, :2] + maps[:, 2:]
    losses = {
        "UnCL, beta 5": (lambda s, t: UnCLoss(entropy_weight=0.01)(s, t, 5.0), 5.0),
        "UnCL, beta 1": (lambda s, t: UnCLoss(entropy_weight=0.01)(s, t, 1.0), 5.0),
        "UnCL, beta 0.5": (lambda s, t: UnCLoss(entropy_weight=0.01)(s, t, 0.5), 5.0),
        "MSE": (consistency_mse, 10.0),
        "Dice": (consistency_dice, 1.0),
    }
    for name, (loss, weight) in losses.items():
        exact = input_gradient(loss, student.float(), teacher.float(), 1.0).double()
        for scale in (1024.0, 65536.0):
            found = input_gradient(loss, student, teacher, weight * scale).double() / (weight * scale)
            cosine = float(F.cosine_similarity(found.flatten(), exact.flatten(), dim=0))
            row = {
                "loss": name,
                "weight x scale": f"{weight:g} x {scale:g}",
                "finite": float(found.isfinite().double().mean()),
            }
            row |= {"not 0": float((found != 0).double().mean()), "cosine": cosine}
            rows.append(row | {"length": float(found.norm() / exact.norm())})
    table(f"Gradients of float16 logits, 2 x 2 x {' x '.join(map(str, shape))}", rows)
    return {"gradients": rows}


def input_gradient(loss: Callable, student: torch.Tensor, teacher: torch.Tensor, factor: float) -> torch.Tensor:
    leaf = student.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, teacher) * factor, leaf)[0]


# --------------------------------------------------------------------------------------------------------- step


def make_trainer(args: argparse.Namespace, name: str, settings: str = ""):
    """A trainer of the dataset, ready to step."""
    from nnunetv2.run.run_training import get_trainer_from_args

    os.environ["nnUNet_dycon"] = settings
    trainer = get_trainer_from_args(args.d, args.c, args.f, name, args.p, device=torch.device(args.device))
    trainer.initialize()
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.network.train()
    return trainer


def made_up_batch(trainer, num_unlabeled: int) -> dict:
    """Crops and targets of the trainer's shapes."""
    patch, b = trainer.configuration_manager.patch_size, trainer.batch_size
    channels = trainer.num_input_channels
    scales = trainer._get_deep_supervision_scales() or [[1] * len(patch)]
    shapes = [[round(p * s) for p, s in zip(patch, scale, strict=True)] for scale in scales]
    target = [(torch.rand(b, 1, *shape) < 0.2).to(torch.int16) for shape in shapes]
    batch = {
        "data": torch.randn(b, channels, *patch),
        "target": target if trainer.enable_deep_supervision else target[0],
    }
    return batch | {"unlabeled": torch.randn(num_unlabeled, channels, *patch)}


def benchmark_step(args: argparse.Namespace) -> dict:
    device = torch.device(args.device)
    results = tempfile.mkdtemp()
    os.environ["nnUNet_results"] = results
    rows = []
    stock = make_trainer(args, "nnUNetTrainer")
    for name, (settings, floor_share) in list(STEPS.items())[: args.steps]:
        ours = make_trainer(args, "nnUNetTrainerDyCON", settings)
        batch = made_up_batch(ours, ours.batch_size)
        calls = {"stock": lambda: stock.train_step(batch), "ours": lambda: ours.train_step(batch)}  # noqa: B023
        seconds = medians(calls, device, args.repeats)
        floor = floor_share * seconds["stock"]
        rows.append({
            "teacher sees": name,
            "nnU-Net [ms]": 1e3 * seconds["stock"],
            "DyCON [ms]": 1e3 * seconds["ours"],
            "floor [ms]": 1e3 * floor,
            "DyCON / floor": seconds["ours"] / floor,
        })  # fmt: skip
        if args.times_only:
            continue
        parts = stage_seconds(ours, batch, device, args.repeats)
        bare = make_trainer(args, "nnUNetTrainerDyCON", f"{settings},{NO_LOSSES}")
        bare.train_step(batch)
        calls["bare"] = lambda: bare.train_step(batch)  # noqa: B023
        memory = {
            name: statistics.median(peak_mib(call, device) for _ in range(args.repeats)) for name, call in calls.items()
        }
        rows[-1] |= {
            **{f"{stage} [ms]": 1e3 * parts[stage] for stage in STAGES},
            "nnU-Net [MiB]": memory["stock"],
            "DyCON [MiB]": memory["ours"],
            "losses, head [MiB]": memory["ours"] - memory["bare"] + head_mib(ours),
        }
    shutil.rmtree(results)
    table(
        f"One step, batch {stock.batch_size} + {stock.batch_size}, patch {stock.configuration_manager.patch_size}", rows
    )
    return {"step": rows}


def head_mib(trainer) -> float:
    """What the head holds between steps: its weights, their momentum and the teacher's copy."""
    head = [] if trainer.head is None else trainer.head.parameters()
    return 3 * sum(i.numel() * i.element_size() for i in head) / 2**20


def stage_seconds(trainer, batch: dict, device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds of a step in teacher, losses (with the gradient they compute) and EMA; the student has the rest."""
    spent = dict.fromkeys(STAGES[1:], 0.0)

    def timed(name: str, method: Callable) -> Callable:
        def call(*arguments):
            synchronize(device)
            start = time.perf_counter()
            result = method(*arguments)
            synchronize(device)
            spent[name] = time.perf_counter() - start
            return result

        return call

    methods = {
        "teacher": (trainer, "teach"),
        "losses": (trainer, "semi_supervised_losses"),
        "EMA": (trainer.teacher, "update"),
    }
    for name, (owner, method) in methods.items():
        setattr(owner, method, timed(name, getattr(owner, method)))
    rounds = []
    for _ in range(repeats):
        whole = seconds_of(lambda: trainer.train_step(batch), device)
        rounds.append({**spent, "student": whole - sum(spent.values())})
    for owner, method in methods.values():
        delattr(owner, method)
    return {name: statistics.median(i[name] for i in rounds) for name in STAGES}


# ------------------------------------------------------------------------------------------------------- loader


BEFORE_THE_RAMP = "weight_fecl=0,ramp_start=1,strong_labeled_view=0"
LOADERS = {
    "labelled + unlabelled crops": ("weight_fecl=0", 2, False),
    "crops before the ramp-up": (BEFORE_THE_RAMP, 1, False),
    "steps before the ramp-up": (BEFORE_THE_RAMP, 1, True),
}
"""Settings, how many times nnU-Net's own batch is as large so that both have as many crops, and whether steps are made
of the batches."""


def benchmark_loader(args: argparse.Namespace) -> dict:
    """Batches against nnU-Net's own loader with as many crops, in turn: how many a second, and what one costs.

    The rate needs a machine that does nothing else. The cost is the processor's time for a batch without workers, with
    the same seed for both.
    """
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as results:
        os.environ["nnUNet_results"] = results
        for name, (settings, factor, makes_steps) in LOADERS.items():
            trainers = [
                make_trainer(args, "nnUNetTrainerSupervised"), make_trainer(args, "nnUNetTrainerDyCON", settings)
            ]  # fmt: skip
            trainers[0].batch_size *= factor
            loaders = [trainer.get_dataloaders() for trainer in trainers]
            uses = [stepper(i) if makes_steps else lambda batch: None for i in trainers]
            feeds = [(train, use) for (train, _), use in zip(loaders, uses, strict=True)]
            rates = [[batches_a_second(*feed, args.batches) for feed in feeds] for _ in range(args.repeats)]
            for loader in (loader for pair in loaders for loader in pair):
                getattr(loader, "_finish", lambda: None)()
            costs = [[processor_ms(*feed, seed) for feed in feeds] for seed in range(args.repeats * args.batches)]
            for unit, pairs in (("batches / s", rates), ("CPU ms a batch", costs)):
                ratios = sorted(ours / stock for stock, ours in pairs)
                row = {"what": name, "in": unit, "nnU-Net": statistics.median(i for i, _ in pairs)}
                row |= {"ours": statistics.median(i for _, i in pairs), "ours / nnU-Net": statistics.median(ratios)}
                quarter = len(ratios) // 4
                rows.append(row | {"lower quartile": ratios[quarter], "upper": ratios[-1 - quarter]})
    table(f"Loading with nnUNet_n_proc_DA={os.environ.get('nnUNet_n_proc_DA')}", rows)
    return {"loader": rows}


def stepper(trainer) -> Callable[[dict], object]:
    """Steps with what a batch has: the first of each epoch has unlabelled crops, and workers count for themselves."""

    def step(batch: dict) -> object:
        trainer.steps_done = 0 if "unlabeled" in batch else 1
        return trainer.train_step(batch)

    return step


def batches_a_second(train, use: Callable, number: int) -> float:
    """Of so many batches after those that were made while the other loader was fed."""
    for _ in range(3 * getattr(train, "num_cached", 1)):
        use(next(train))
    return number / seconds_of(lambda: [use(next(train)) for _ in range(number)], torch.device("cpu"))


def processor_ms(train, use: Callable, seed: int) -> float:
    """Of one batch that this process makes and uses; its workers must have ended."""
    loader = getattr(train, "generator", None) or train.data_loader
    for set_seed in (np.random.seed, torch.manual_seed, random.seed):
        set_seed(seed)
    start = time.process_time()
    use(next(loader))
    return 1e3 * (time.process_time() - start)


def benchmark_pictures(args: argparse.Namespace) -> dict:
    """What drawing costs in a training, as a share of its epochs."""
    from benchmark_pictures import pictures_rows

    with tempfile.TemporaryDirectory() as results:
        os.environ["nnUNet_results"] = results
        epoch_s, rows = pictures_rows(make_trainer(args, "nnUNetTrainerDyCON", "ramp_start=0"), args.repeats)
    table(f"Pictures; an epoch of this dataset without them takes {epoch_s:.3g} s", rows)
    return {"pictures": rows}


# -------------------------------------------------------------------------------------------------------- cases


def benchmark_cases(args: argparse.Namespace) -> dict:
    """Start-up with many unlabelled cases: finding scans, checking what is preprocessed, making the dataset."""
    import blosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled
    from nnunet_dycon.dataset.unlabeled_preprocessing import _signature, preprocess_unlabeled, preprocessing_fingerprint
    from nnunet_dycon.dataset.unlabeled_scans import preprocessed_unlabeled_folder

    plans, dataset_json = made_up_plans()
    fingerprint = preprocessing_fingerprint(PlansManager(plans), "3d_fullres")
    rows = []
    for number in (10, 100, 1000, 10_000):
        root = Path(tempfile.mkdtemp())
        os.environ["nnUNet_raw"] = str(root)
        scans, labeled = root / "Dataset999_Many" / "imagesUn", root / "preprocessed" / "labeled"
        folder = preprocessed_unlabeled_folder(labeled)
        scans.mkdir(parents=True)
        folder.mkdir(parents=True)
        blosc2.asarray(np.zeros((1, 4, 4, 4), np.float32), urlpath=str(root / "case.b2nd"))
        for i in range(number):
            scan = scans / f"case_{i:05d}_0000.nii.gz"
            scan.touch()
            os.link(root / "case.b2nd", folder / f"case_{i:05d}.b2nd")
            (folder / f"case_{i:05d}.json").write_text(json.dumps({"plans": fingerprint, "files": _signature([scan])}))

        def start_up() -> None:
            cases = preprocess_unlabeled(
                "Dataset999_Many",
                "3d_fullres",
                plans,
                dataset_json,
                labeled,  # noqa: B023
                num_processes=1,
                progress=False,
            )
            dataset = nnUNetDatasetUnlabeled({case: folder / f"{case}.b2nd" for case in cases})  # noqa: B023
            assert len(dataset.identifiers) == number  # noqa: B023
            dataset.load_image(dataset.identifiers[-1])[:]

        memory = peak_mib(start_up, torch.device("cpu"))
        rows.append(
            {"unlabelled cases": number, "start-up [s]": seconds_of(start_up, torch.device("cpu")), "MiB": memory}
        )
        shutil.rmtree(root)
    table("Start-up with many unlabelled cases, all preprocessed", rows)
    return {"cases": rows}


def made_up_plans() -> tuple[dict, dict]:
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [32, 32, 32],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        # as in plans of nnU-Net 2.8, so that it does not complain about old ones
        "architecture": {"network_class_name": "none", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    plans = {
        "dataset_name": "Dataset999_Many",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "foreground_intensity_properties_per_channel": {},
    }
    return plans, {"file_ending": ".nii.gz", "channel_names": {"0": "MRI"}}


def main() -> None:
    parts = {
        "losses": benchmark_losses,
        "gradients": benchmark_gradients,
        "step": benchmark_step,
        "loader": benchmark_loader,
        "cases": benchmark_cases,
        "pictures": benchmark_pictures,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=parts, help="what to measure")
    parser.add_argument("-d", help="dataset ID, for step, loader and pictures")
    parser.add_argument("-c", default="3d_fullres")
    parser.add_argument("-p", default="nnUNetPlans")
    parser.add_argument("-f", default="all", type=lambda i: i if i == "all" else int(i))
    parser.add_argument("-device", default="cpu")
    parser.add_argument("-o", type=Path, help="JSON file to write as well")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batches", type=int, default=50, help="batches of a loader in a round")
    parser.add_argument("--steps", type=int, choices=range(1, len(STEPS) + 1), help="kinds of steps; all by default")
    parser.add_argument(
        "--times-only", action="store_true", help="of steps: no parts and memory, whose networks compile anew"
    )
    parser.add_argument("--small", action="store_true", help="losses and gradients at the smallest size, to try it out")
    args = parser.parse_args()
    # as nnU-Net's own command sets it
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, torch.cuda.is_available()
    if args.d is None and {"step", "loader", "pictures"} & set(args.parts):
        parser.error("step, loader and pictures need -d DATASET_ID")
    torch.manual_seed(0)
    machine = {
        "device": torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    result = {"machine": machine}
    for part in args.parts:
        result |= parts[part](args)
    if args.o:
        args.o.write_text(json.dumps(result, indent=1))
        print(f"\nWritten: {args.o}")


if __name__ == "__main__":
    main()

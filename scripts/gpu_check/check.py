"""What gpu_check.sh measures in Python: losses and steps on the device against the CPU, kernels, waits, memory.

python scripts/gpu_check/check.py losses DEVICE OUTPUT.json
python scripts/gpu_check/check.py step DATASET CONFIGURATION PLANS DEVICE OUTPUT.json
python scripts/gpu_check/check.py profile DATASET PLANS DEVICE
python scripts/gpu_check/check.py stop_after_epoch DATASET CONFIGURATION FOLD PLANS TRAINER DEVICE
python scripts/gpu_check/check.py steps_in BENCHMARK.json SECONDS
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

DRY = bool(os.environ.get("DRY"))
FULL_RAMP = "ramp_start=0,ramp_length=0,num_epochs=2,num_iterations_per_epoch=100"
SAME_VIEWS = "student_zoom=1,cutmix=0,teacher_noise=0"  # without what is drawn at random on the device
SCALES = {torch.float32: (1.0,), torch.float16: (1024.0, 65536.0)}  # of the gradient scaler; it begins with the latter


# ----------------------------------------------------------------------------------------------------------- set-up


def fast_kernels() -> None:
    """As nnU-Net's own command does."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, torch.cuda.is_available()


def make_trainer(
    dataset: str, configuration: str, plans: str, device: str, name: str = "nnUNetTrainerDyCON", settings: str = ""
) -> Any:
    """A trainer that is ready to step; its weights come from the CPU, so that all devices have the same."""
    from nnunetv2.run.run_training import get_trainer_from_args

    os.environ["nnUNet_dycon"] = settings
    np.random.seed(0)
    trainer = get_trainer_from_args(dataset, configuration, 0, name, plans, device=torch.device(device))
    torch.manual_seed(0)
    trainer.initialize()
    trainer.network.train()
    trainer.set_deep_supervision_enabled(True)
    return trainer


def made_up_batch(trainer: Any, seed: int = 0) -> dict:
    """Crops with a bright box that is the foreground, in the host's memory as the loader's are, pinned for CUDA."""
    generator = torch.Generator().manual_seed(seed)
    patch, b = list(trainer.configuration_manager.patch_size), trainer.batch_size
    box: Any = (..., *(slice(i // 4, i // 2) for i in patch))
    images, unlabeled = torch.randn((2, b, trainer.num_input_channels, *patch), generator=generator)
    labels = torch.zeros(b, 1, *patch)
    for crops, brighter in ((images, 2), (unlabeled, 2), (labels, 1)):
        crops[box] += brighter
    scales = [tuple(i) for i in trainer._get_deep_supervision_scales()]
    target = [F.interpolate(labels, scale_factor=i, mode="nearest").to(torch.int16) for i in scales]
    if trainer.device.type == "cuda":
        target = [i.pin_memory() for i in target]
        images, unlabeled = images.pin_memory(), unlabeled.pin_memory()
    return {"data": images, "target": target, "unlabeled": unlabeled, "unlabeled_weak": unlabeled.clone()}


def report(good: bool, text: str) -> bool:
    print("ok  " if good else "FAIL", text, flush=True)
    return good


def likeness(found: torch.Tensor, expected: torch.Tensor | None) -> tuple[float, float]:
    """Cosine of two gradients, and the length of the first over the second's; NaN where one is not finite."""
    assert expected is not None
    a, b = (i.detach().double().cpu().flatten() for i in (found, expected))
    return float(F.cosine_similarity(a, b, dim=0)), float(a.norm() / b.norm())


# ----------------------------------------------------------------------------------------------------------- losses


def losses(device: str, output: str) -> int:
    """Losses and gradients on the device, in float32 and as under autocast, against float64 on the CPU."""
    torch.manual_seed(0)
    rows = []
    for name, call, first, rest, weight in loss_cases():
        leaf = first.clone().requires_grad_()
        expected = call(leaf, *rest)
        expected.backward()
        for dtype, scales in SCALES.items():
            for scale in scales:
                there = lambda i: i.to(device, dtype if i.is_floating_point() else None)  # noqa: B023, E731
                mine = there(first).requires_grad_()
                value = call(mine, *map(there, rest))
                (value * scale * weight).backward()
                cosine, length = likeness(mine.grad.double() / (scale * weight), leaf.grad)
                exact = expected.item()
                error = abs(value.item() - exact) / max(1e-6, abs(exact))
                good = cosine > 0.999 and abs(length - 1) < 0.01 and error < 5e-3
                rows.append({"loss": name, "dtype": str(dtype), "scale": scale, "error": error, "cosine": cosine})
                rows[-1] |= {"length": length, "ok": good}
                found = f"relative error {error:.1e}; gradient: cosine {cosine:.5f}, length {length:.4f}"
                report(good, f"{name} {dtype} scale {scale:.0f}: {found}")
    patches = report(patches_agree(device), "labels and means of patches as on the CPU")
    failed = sum(not i["ok"] for i in rows) + (not patches)
    print(f"all {len(rows) + 1} checks, {failed} failed")
    Path(output).write_text(json.dumps(rows, indent=1))
    return 1 if failed else 0


def loss_cases() -> list[tuple[str, Callable, torch.Tensor, list[torch.Tensor], float]]:
    """Name, loss, what gets the gradient, other arguments, and the loss's weight in a training."""
    from nnunet_dycon.losses import FeCLoss, UnCLoss, consistency_dice, consistency_mse

    cases: list[tuple[str, Callable, torch.Tensor, list[torch.Tensor], float]] = []
    for classes, kind in ((2, "softmax"), (3, "softmax"), (3, "sigmoid")):
        student, teacher = made_up_logits(classes)
        name = f"{classes} {'regions' if kind == 'sigmoid' else 'classes'}"
        for beta, entropy_weight in ((5.0, 0.01), (0.5, 0.01), (0.5, 1.0)):
            uncl = UnCLoss(nonlinearity=kind, entropy_weight=entropy_weight)
            text = f"UnCL, {name}, beta {beta}, entropy_weight {entropy_weight}"
            cases.append((text, lambda s, t, uncl=uncl, beta=beta: uncl(s, t, beta), student, [teacher], 5.0))
        for text, loss, weight in (("Dice", consistency_dice, 1.0), ("MSE", consistency_mse, 10.0)):
            call = lambda s, t, loss=loss, kind=kind: loss(s, t, kind)  # noqa: E731
            cases.append((f"{text}, {name}", call, student, [teacher], weight))
    for n in (64,) if DRY else (512, 4096):
        z, other = (F.normalize(torch.randn(2, n, 128, dtype=torch.float64) + 1, dim=-1) for _ in range(2))
        rest = [torch.randint(-1, 3, (2, n)), other, torch.rand(2, n, dtype=torch.float64)]
        cases.append((f"FeCL, {n} patches", FeCLoss(), z, rest, 1.0))
    return cases


def made_up_logits(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Student and teacher (2, classes, X, Y, Z), of a real crop's size, that mostly agree."""
    shape = [16] * 3 if DRY else [80, 112, 112]

    def noise(scale: float, coarseness: int) -> torch.Tensor:
        coarse = torch.randn(2, classes, *[max(2, i // coarseness) for i in shape], dtype=torch.float64)
        return scale * F.interpolate(coarse, size=shape, mode="trilinear")

    teacher = noise(4, 8)
    return teacher + noise(1, 4), teacher


def patches_agree(device: str) -> bool:
    from nnunet_dycon.losses.patches import patch_labels, pool_to_grid

    truth, grid = torch.randint(0, 3, (2, 16, 24, 24)), [2, 3, 3]
    there = truth.to(device)
    same = torch.equal(patch_labels(truth, [0, 1, 2], grid), patch_labels(there, [0, 1, 2], grid).cpu())
    means = [pool_to_grid(i[:, None].float(), grid).cpu() for i in (truth, there)]
    return same and torch.allclose(means[0], means[1], atol=1e-4)


# ------------------------------------------------------------------------------------------------------------- step


def step(dataset: str, configuration: str, plans: str, device: str, output: str) -> int:
    """A step on the device against the same one on the CPU in float32; then what waits, and memory, of a step."""
    settings = f"{FULL_RAMP},{SAME_VIEWS},weight_mse=0.1"
    reference = make_trainer(dataset, configuration, plans, "cpu", settings=settings)
    for _ in range(2 if DRY else 8):  # away from the first weights
        reference.train_step(made_up_batch(reference, 7))
    mine = make_trainer(dataset, configuration, plans, device, settings=settings)
    mine.network.load_state_dict(reference.network.state_dict())
    mine.head.load_state_dict(reference.head.state_dict())
    mine.teacher.load_state_dict(reference.teacher.state_dict())
    mine.steps_done = reference.steps_done  # beta follows it
    found, expected = (terms_and_gradients(i, made_up_batch(i, 8)) for i in (mine, reference))
    rows, bad = [], 0
    for key, (there, exact_gradient) in expected.items():
        here, gradient = found[key]
        cosine, length = likeness(gradient, exact_gradient)
        good = abs(here - there) < 0.05 * max(1e-3, abs(there)) and cosine > 0.97 and abs(length - 1) < 0.1
        rows.append({"term": key, "here": here, "cpu": there, "cosine": cosine, "length": length, "ok": good})
        text = f"{key}: {here:.5g} here, {there:.5g} on the CPU; gradient: cosine {cosine:.4f}, length {length:.4f}"
        bad += not report(good, text)
    Path(output).write_text(json.dumps(rows, indent=1))
    for name, extra in (
        ("DyCON", ""), ("DyCON", "preset=paper"), ("DyCON", "unlabeled_batch_size=1"), ("MeanTeacher", ""),
        ("DyCONCoTraining", ""),
    ):  # fmt: skip
        trainer = f"nnUNetTrainer{name}"
        try:
            bad += not sane(make_trainer(dataset, configuration, plans, device, trainer, f"{FULL_RAMP},{extra}"), extra)
        except Exception:  # the next one may be well
            bad += not report(False, f"{trainer} {extra}: {traceback.format_exc()}")
    return 1 if bad else 0


def terms_and_gradients(trainer: Any, batch: dict) -> dict[str, tuple[float, torch.Tensor]]:
    """Each loss term of a step, and its gradient over the trained parameters as under the gradient scaler."""
    parameters = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    scale = 1.0 if trainer.grad_scaler is None else 1024.0  # small, so that only rounding is seen
    found: dict[str, tuple[float, torch.Tensor]] = {}

    def keep(terms: dict[str, torch.Tensor]) -> None:
        for name, term in terms.items():
            got = torch.autograd.grad(term * scale, parameters, retain_graph=True, allow_unused=True)
            pairs = zip(got, parameters, strict=True)
            flat = [(torch.zeros_like(p) if g is None else g).float().cpu().flatten() / scale for g, p in pairs]
            found[name] = term.item(), torch.cat(flat)

    losses_of, supervised = trainer.semi_supervised_losses, trainer.loss

    def semi_supervised_losses(step: Any) -> dict[str, torch.Tensor]:
        terms = losses_of(step)
        keep(terms)
        return terms

    def loss(*arguments: Any) -> torch.Tensor:
        value = supervised(*arguments)
        keep({"supervised": value})
        return value

    trainer.semi_supervised_losses, trainer.loss = semi_supervised_losses, loss
    trainer.train_step(batch)
    trainer.semi_supervised_losses, trainer.loss = losses_of, supervised
    return found


def sane(trainer: Any, extra: str) -> bool:
    """Steps of a trainer: finite and falling loss, skipped steps, what waits for the device, whether memory grows."""
    batch, name = made_up_batch(trainer, 3), f"{type(trainer).__name__} {extra}"
    number = trainer.settings.unlabeled_batch_size or trainer.batch_size
    batch |= {key: batch[key][:number] for key in ("unlabeled", "unlabeled_weak")}
    first_scale = 1.0 if trainer.grad_scaler is None else trainer.grad_scaler.get_scale()
    values = [float(trainer.train_step(batch)["loss"]) for _ in range(4 if DRY else 40)]
    scale = first_scale if trainer.grad_scaler is None else trainer.grad_scaler.get_scale()
    skipped = math.log2(first_scale / scale)
    good = bool(np.isfinite(values).all()) and values[-1] < values[0] and skipped < 10
    text = f"{name}: loss {values[0]:.3f} -> {values[-1]:.3f} in {len(values)} steps, {skipped:.0f} skipped"
    report(good, text)
    if trainer.device.type == "cuda":
        waits_and_memory(trainer, batch, name)
    return good


def waits_and_memory(trainer: Any, batch: dict, name: str) -> None:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train_step(batch)
    torch.cuda.set_sync_debug_mode("default")
    places = [f"{Path(i.filename).name}:{i.lineno}" for i in caught if "synchroniz" in str(i.message)]
    print(f"sync {name}: {len(places)} in a step: {', '.join(places)}")
    for _ in range(20):
        trainer.train_step(batch)
    torch.cuda.synchronize()
    grown, peak = (torch.cuda.memory_allocated() - before) / 20, torch.cuda.max_memory_allocated() / 2**20
    print(f"memory {name}: grows by {grown:.0f} bytes a step, peak {peak:.0f} MiB")


def profile(dataset: str, plans: str, device: str) -> int:
    """The kernels that a step of DyCON spends its time in."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    fast_kernels()
    trainer = make_trainer(dataset, "3d_fullres", plans, device, settings=FULL_RAMP)
    batch, cuda = made_up_batch(trainer), device == "cuda"
    for _ in range(3):
        trainer.train_step(batch)
    with record(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]) as result:
        for _ in range(3):
            trainer.train_step(batch)

    def time_ms(row: Any) -> float:
        return (row.self_device_time_total if cuda else row.self_cpu_time_total) / 3e3

    rows = sorted((i for i in result.key_averages() if not cuda or i.device_type.name == "CUDA"), key=time_ms)[::-1]
    total = sum(map(time_ms, rows))
    print(f"| one step: {total:.1f} ms on the {device} | calls | ms | share |\n|---|---|---|---|")
    for row in rows[:24]:
        print(f"| {row.key[:90]} | {row.count / 3:.0f} | {time_ms(row):.2f} | {100 * time_ms(row) / total:.1f} % |")
    return 0


# -------------------------------------------------------------------------------------------------------- trainings


def stop_after_epoch(dataset: str, configuration: str, fold: str, plans: str, name: str, device: str) -> int:
    """The first epoch of a training, which then ends as if it had been interrupted."""
    from nnunetv2.run.run_training import get_trainer_from_args

    class StopError(Exception): ...

    fast_kernels()
    trainer = get_trainer_from_args(dataset, configuration, int(fold), name, plans, device=torch.device(device))
    end = trainer.on_epoch_end

    def on_epoch_end() -> None:
        end()
        raise StopError

    trainer.on_epoch_end = on_epoch_end
    try:
        trainer.run_training()
    except StopError:
        for loader in (trainer.dataloader_train, trainer.dataloader_val):
            getattr(loader, "_finish", lambda: None)()
    file = Path(trainer.output_folder) / "checkpoint_latest.pth"
    print("stopped;", file, file.is_file())
    return 0 if file.is_file() else 1


def steps_in(file: str, seconds: str) -> int:
    """Print how many training steps three trainings side by side can take in a time."""
    start_s, loading_ms = 30, 120  # imports, loaders, first steps; loaders feed no more than so much
    try:
        rows = json.loads(Path(file).read_text())["step"]
        dycon_ms = 0.4 * rows[-1]["DyCON [ms]"] + 0.6 * rows[0]["DyCON [ms]"]  # before the ramp-up and after
        step_ms = max(loading_ms, 1.25 * (rows[0]["nnU-Net [ms]"] + 2 * dycon_ms) + 30)  # Mean Teacher costs as much
    except (OSError, KeyError, ValueError, IndexError):
        step_ms = 500.0
    steps = int((float(seconds) - start_s) * 0.75e3 / step_ms)
    print(max(100, min(2000, steps // 20 * 20)))
    return 0


if __name__ == "__main__":
    calls = {i.__name__: i for i in (losses, step, profile, stop_after_epoch, steps_in)}
    sys.exit(calls[sys.argv[1]](*sys.argv[2:]))

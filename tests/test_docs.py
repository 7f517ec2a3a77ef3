"""The documentation says what the code does: its example trains, its commands are accepted, its messages exist."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

import nnunet_dycon
from nnunet_dycon.cli import COMMANDS, main
from nnunet_dycon.errors import UserError
from nnunet_dycon.settings import overrides_from_environment
from nnunet_dycon.trainers.dycon import DyCONSettings
from nnunet_dycon.training.curves import SemiSupervisedLogger
from nnunet_dycon.training.step import Step, Taught

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture
def example(dataset, monkeypatch):
    """Makes the trainer of new_method.md as nnUNetv2_train does, which finds it in nnUNet_extTrainer."""
    monkeypatch.setattr(SemiSupervisedLogger, "plot_progress_png", lambda self, folder: None)
    monkeypatch.setattr(nnUNetTrainer, "plot_network_architecture", lambda self: None)
    monkeypatch.setenv("nnUNet_extTrainer", str(DOCS / "examples"))
    length = "num_epochs=1,num_iterations_per_epoch=2,num_val_iterations_per_epoch=1"
    monkeypatch.setenv("nnUNet_dycon", f"confidence=0.5,{length}")
    return lambda: get_trainer_from_args("901", "3d_fullres", 0, "nnUNetTrainerPseudoLabel", device=torch.device("cpu"))


def test_the_example_of_a_new_method_trains_and_continues(example, dataset, monkeypatch):
    trainer = example()
    trainer.run_training()
    assert trainer.settings.weak_teacher_view and trainer.settings.confidence == 0.5
    assert np.isfinite(trainer.logger.get_value("pseudo", -1))
    folder = dataset.results / "nnUNetTrainerPseudoLabel__nnUNetPlans__3d_fullres" / "fold_0"
    log = next(folder.glob("training_log*")).read_text()
    assert "confident_share" in log and "weight_pseudo: 1.0" in log
    monkeypatch.delenv("nnUNet_dycon")
    continued = example()
    maybe_load_checkpoint(continued, continue_training=True, validation_only=False)
    assert continued.settings.to_dict() == trainer.settings.to_dict()  # the classes differ: nnU-Net imports anew
    monkeypatch.setenv("nnUNet_dycon", "weight_psuedo=2")
    with pytest.raises(UserError, match="weight_pseudo"):
        example()


def test_the_example_of_a_new_method_handles_regions(example):
    trainer = example()
    trainer.initialize()
    trainer.nonlinearity = "sigmoid"
    logits = torch.randn(2, 3, 4, 4, 4, requires_grad=True)
    step = Step(0.5, torch.zeros(1, 1, 4, 4, 4), logits, Taught(torch.randn(1, 3, 4, 4, 4)))
    trainer.semi_supervised_losses(step)["pseudo"].backward()
    assert not logits.grad[0].any() and logits.grad[1].any()


# -------------------------------------------------------------------------------------------- what the pages say


def fragments(text):
    """The fixed parts of a message whose variable parts are written as an ellipsis."""
    return [i for i in re.split(r"\s*…\s*", text.replace("...", "…")) if i]


def messages_of_the_package():
    """Every text in the package, the fields of f-strings written as an ellipsis."""
    for file in Path(nnunet_dycon.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [i.value if isinstance(i, ast.Constant) else "…" for i in node.values]
                yield "".join(parts).replace("...", "…")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value.replace("...", "…")


def test_explained_messages_exist():
    text = (DOCS / "troubleshooting.md").read_text().split("## nnU-Net's own messages")[0]
    terms = re.findall(r"^(`.+`)\n: |^  - (`.+?`)", text, flags=re.M)
    explained = [i for term in terms for i in re.findall(r"`([^`]+)`", "".join(term)) if "nnU-Net" not in "".join(term)]
    assert 5 <= len(explained) <= 15, "messages say themselves what to do; explain those that need a why"
    messages = list(messages_of_the_package())
    unknown = [
        i for i in explained if not any(re.search(".*".join(map(re.escape, fragments(i))), m, re.S) for m in messages)
    ]
    assert not unknown, "docs/troubleshooting.md explains messages that are not in the package"


def pages():
    return [*sorted(DOCS.rglob("*.md")), *sorted(DOCS.parent.glob("*.md"))]


def test_lines_are_within_120_columns():
    """A table's row cannot be broken in Markdown; all other lines can."""
    long = [
        f"{page.name}:{number}"
        for page in pages()
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if len(line) > 120 and not line.startswith("|")
    ]
    assert not long


def test_commands_are_accepted(monkeypatch):
    lines = [
        (page.name, shlex.split(line, comments=True)[1:])
        for page in pages()
        for line in re.findall(
            r"^    (nnunet-dycon [a-z].*)", page.read_text().replace("\\\n", " "), flags=re.MULTILINE
        )
    ]
    assert len(lines) > 20
    for page, arguments in lines:
        assert arguments[0] in COMMANDS, page
        module = importlib.import_module(f"nnunet_dycon.cli.{arguments[0].replace('-', '_')}")
        monkeypatch.setattr(module, "run", lambda args: 0)
        assert main(arguments) == 0, f"{page}: {shlex.join(arguments)}"


def test_settings_exist(monkeypatch):
    names = {}
    for page in pages():
        for value in re.findall(r"nnUNet_dycon=(\"[^\"]+\"|'[^']+'|[a-z_]+=\S+?)[\s`]", page.read_text()):
            monkeypatch.setenv("nnUNet_dycon", value.strip("\"'"))
            names |= overrides_from_environment()
    names.pop("confidence")  # the example's own
    assert len(names) > 3
    DyCONSettings().override(names)


def test_files_exist():
    for page in [*pages(), *DOCS.parent.glob("scripts/**/*.sh")]:
        for path in re.findall(r"\b(?:scripts|tests|nnunet_dycon|docs)/[\w/.-]*\w", page.read_text()):
            if page.suffix == ".sh" and not path.endswith((".py", ".sh")):
                continue  # what a script writes
            assert (DOCS.parent / path).exists(), f"{page.name}: {path}"


def test_tests_exist():
    chosen = [
        (page, *i) for page in pages() for i in re.findall(r"pytest (tests/[\w/]+\.py) -k\s(\w+)", page.read_text())
    ]
    assert len(chosen) > 2
    for page, file, words in chosen:
        assert re.search(rf"def test_\w*{words}", (DOCS.parent / file).read_text()), f"{page.name}: {file} -k {words}"

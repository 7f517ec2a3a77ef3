import dataclasses
import json

import pytest

from nnunet_dycon.errors import UserError
from nnunet_dycon.settings import overrides_from_environment
from nnunet_dycon.trainers.dycon import DyCONSettings, nnUNetTrainerDyCON
from nnunet_dycon.trainers.mean_teacher import nnUNetTrainerMeanTeacher
from nnunet_dycon.trainers.supervised import nnUNetTrainerSupervised


def test_settings_are_frozen_and_survive_json():
    settings = DyCONSettings(weight_fecl=0.7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.weight_fecl = 0.2
    assert DyCONSettings(**json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    "text",
    ["weight_fecl=0.1, negative_focal=false,top_k=3", '{"weight_fecl": 0.1, "negative_focal": false, "top_k": 3}'],
)
def test_environment_as_pairs_or_json(monkeypatch, text):
    monkeypatch.setenv("nnUNet_dycon", text)
    settings = DyCONSettings().override(overrides_from_environment())
    assert (settings.weight_fecl, settings.negative_focal, settings.top_k) == (0.1, False, 3)
    assert (
        dataclasses.replace(settings, weight_fecl=DyCONSettings().weight_fecl, negative_focal=True, top_k=10)
        == DyCONSettings()
    )


def test_empty_environment_changes_nothing(monkeypatch):
    monkeypatch.delenv("nnUNet_dycon", raising=False)
    assert overrides_from_environment() == {}
    monkeypatch.setenv("nnUNet_dycon", " ")
    assert overrides_from_environment() == {}


def test_optional_values():
    settings = DyCONSettings(patch_foreground_share=0.3).override(
        {"patch_foreground_share": "none", "num_epochs": "20"}
    )
    assert settings.patch_foreground_share is None
    assert settings.num_epochs == 20


def test_unknown_setting_is_refused_and_the_nearest_named():
    with pytest.raises(UserError, match=r"'weight_fcl'.*mean 'weight_fecl'"):
        DyCONSettings().override({"weight_fcl": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight_uncl", "much"),
        ("weight_uncl", "-1"),
        ("negative_focal", "maybe"),
        ("top_k", "2.5"),
        ("ema_decay", "1"),
        ("predict_with", "both"),
        ("num_epochs", "0"),
        ("cutmix", "1.5"),
        ("strong_labeled_view", "-0.1"),
    ],
)
def test_values_that_do_not_fit_are_refused(name, value):
    with pytest.raises(UserError, match=name):
        DyCONSettings().override({name: value})


@pytest.mark.parametrize("text", ["weight_fecl", '{"weight_fecl": }'])
def test_unreadable_environment_is_refused(monkeypatch, text):
    monkeypatch.setenv("nnUNet_dycon", text)
    with pytest.raises(UserError, match="nnUNet_dycon"):
        overrides_from_environment()


def test_the_preset_paper_has_the_published_values_and_gives_way_to_what_is_asked_for():
    settings = DyCONSettings().override({"preset": "paper", "weight_fecl": "0.2"})
    assert (settings.weight_uncl, settings.weight_fecl, settings.weight_mse, settings.weight_dice) == (0.5, 0.2, 0.1, 0)
    assert (settings.ramp_length, settings.teacher_noise, settings.entropy_weight) == (1.0, 0.1, 1.0)
    assert (settings.beta_max, settings.beta_min, settings.ema_decay) == (5.0, 0.5, 0.99)
    assert settings.teach_labeled and not (settings.weak_teacher_view or settings.strong_student_view)
    assert settings.strong_labeled_view == 0
    assert settings.override({"preset": "paper", "weight_fecl": "0.2"}) == settings
    assert settings.override(settings.to_dict()) == settings


def test_a_preset_does_not_bring_back_a_loss_that_a_trainer_leaves_out():
    without = dataclasses.replace(DyCONSettings(), weight_fecl=0.0)
    assert without.override({"preset": "paper"}).weight_fecl == 0
    with pytest.raises(UserError, match="preset must be default or paper, got papers"):
        DyCONSettings().override({"preset": "papers"})


def test_the_control_augments_as_nnunet_does_unless_asked_otherwise():
    assert nnUNetTrainerSupervised.default_settings.strong_labeled_view == 0
    assert nnUNetTrainerSupervised.default_settings.override({"preset": "paper"}).strong_labeled_view == 0
    for trainer in (nnUNetTrainerDyCON, nnUNetTrainerMeanTeacher):
        assert trainer.default_settings.strong_labeled_view > 0

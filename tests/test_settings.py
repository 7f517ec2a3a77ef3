import dataclasses
import json

import pytest

from nnunet_dycon.errors import UserError
from nnunet_dycon.settings import Settings, overrides_from_environment


def test_settings_are_frozen_and_survive_json():
    settings = Settings(weight_fecl=0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.weight_fecl = 0.2
    assert Settings(**json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    "text",
    ["weight_fecl=0.1, negative_focal=false,top_k=3", '{"weight_fecl": 0.1, "negative_focal": false, "top_k": 3}'],
)
def test_environment_as_pairs_or_json(monkeypatch, text):
    monkeypatch.setenv("nnUNet_dycon", text)
    settings = Settings().override(overrides_from_environment())
    assert (settings.weight_fecl, settings.negative_focal, settings.top_k) == (0.1, False, 3)
    assert dataclasses.replace(settings, weight_fecl=0.5, negative_focal=True, top_k=10) == Settings()


def test_empty_environment_changes_nothing(monkeypatch):
    monkeypatch.delenv("nnUNet_dycon", raising=False)
    assert overrides_from_environment() == {}
    monkeypatch.setenv("nnUNet_dycon", " ")
    assert overrides_from_environment() == {}


def test_optional_values():
    settings = Settings(patch_foreground_share=0.3).override({"patch_foreground_share": "none", "num_epochs": "20"})
    assert settings.patch_foreground_share is None
    assert settings.num_epochs == 20


def test_unknown_setting_is_refused_and_the_nearest_named():
    with pytest.raises(UserError, match=r"'weight_fcl'.*mean 'weight_fecl'"):
        Settings().override({"weight_fcl": 1})


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
    ],
)
def test_values_that_do_not_fit_are_refused(name, value):
    with pytest.raises(UserError, match=name):
        Settings().override({name: value})


@pytest.mark.parametrize("text", ["weight_fecl", '{"weight_fecl": }'])
def test_unreadable_environment_is_refused(monkeypatch, text):
    monkeypatch.setenv("nnUNet_dycon", text)
    with pytest.raises(UserError, match="nnUNet_dycon"):
        overrides_from_environment()

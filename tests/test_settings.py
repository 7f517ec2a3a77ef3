import dataclasses
import json
import re
from pathlib import Path

import pytest

from nnunet_dycon import trainers
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


@pytest.mark.parametrize("name", ["nnUNet_DyCON", "nnunet_dycon", "nnUNet_dyon", "nnUNet_DICON", "nnUNetdycon"])
def test_a_misspelt_variable_is_no_training_with_the_defaults(monkeypatch, name):
    monkeypatch.delenv("nnUNet_dycon", raising=False)
    monkeypatch.setenv(name, "num_epochs=3")
    with pytest.raises(UserError, match=rf"variable {name} is read by nothing; it is called nnUNet_dycon"):
        overrides_from_environment()


def test_other_variables_are_no_misspelt_ones(monkeypatch):
    monkeypatch.delenv("nnUNet_dycon", raising=False)
    for name in ("startup", "trainers", "traceback"):
        monkeypatch.setenv(f"nnUNet_dycon_{name}", "1")
    monkeypatch.setenv("nnunet_dycon_compare", "1")
    assert overrides_from_environment() == {}


def test_optional_values():
    settings = DyCONSettings(patch_foreground_share=0.3).override(
        {"patch_foreground_share": "none", "num_epochs": "20"}
    )
    assert settings.patch_foreground_share is None
    assert settings.num_epochs == 20
    read = [DyCONSettings().override({"strong_view_local": i}).strong_view_local for i in ("none", "true", "0", False)]
    assert read == [None, True, False, False]


def test_unknown_setting_is_refused_and_the_nearest_named():
    with pytest.raises(UserError, match=r"'weight_fcl'.*mean weight_fecl"):
        DyCONSettings().override({"weight_fcl": 1})


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


# ------------------------------------------------------------------------------------------------------ bounds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ramp_start=400", "ramp_start must be at least 0 and at most 1, got 400.0. Share of the training"),
        ("ramp_length=7", "ramp_length must be at least 0 and at most 1"),
        ("top_k=-3", "top_k must be at least 1"),
        ("top_k=1.5", "top_k must be int"),
        ("num_epochs=0", "num_epochs must be at least 1"),
        ("ema_decay=1", "ema_decay must be at least 0 and below 1"),
        ("cutmix=1.5", "cutmix must be at least 0 and at most 1"),
        ("strong_labeled_view=-0.1", "strong_labeled_view must be at least 0"),
        ("weight_fecl=-1", "weight_fecl must be at least 0, got -1"),
        ("weight_fecl=nan", "weight_fecl must be float"),
        ('{"weight_fecl": Infinity}', "weight_fecl must be float"),
        ('{"weight_fecl": [1]}', "weight_fecl must be float"),
        ("teach_labeled=maybe", "teach_labeled must be bool"),
        ("predict_with=../x", "predict_with must be teacher or student"),
        ('{"weight_fecl": 0.1', "nnUNet_dycon is no valid JSON"),
        ("{1: 2}", "is no valid JSON"),
        ("num_epochs=2, save_every=1,num_epochs=3", "setting num_epochs is given twice"),
        ("weight_fecl", "has no '='; nnUNet_dycon must be key=value"),
        ('["weight_fecl"]', "has no '='"),
        ("temperature=-3", "temperature must be above 0"),
        ("temperature=0", "temperature must be above 0"),
        ("patch_min_purity=7", "patch_min_purity must be at least 0 and at most 1"),
        ("patch_foreground_share=0", "patch_foreground_share must be above 0 and at most 1"),
        ("pseudo_label_min_confidence=1", "pseudo_label_min_confidence must be at least 0 and below 1"),
        ("beta_min=0", "beta_min must be above 0"),
        ("gamma=-1", "gamma must be at least 0"),
        ("entropy_weight=-1", "entropy_weight must be at least 0"),
        ("lambda_cross=-1", "lambda_cross must be at least 0"),
        ("max_patches=1", "max_patches must be at least 2"),
        ("student_zoom=0.5", "student_zoom must be at least 1"),
        ("teacher_noise=-1", "teacher_noise must be at least 0"),
        (
            "num_epochs=2;save_every=1",
            "num_epochs must be int .* None, got '2;save_every=1'; separate settings by commas",
        ),
    ],
)
def test_what_does_not_fit_is_refused(monkeypatch, text, message):
    monkeypatch.setenv("nnUNet_dycon", text)
    with pytest.raises(UserError, match=message):
        DyCONSettings().override(overrides_from_environment())


@pytest.mark.parametrize("name", trainers.__all__)
def test_every_number_of_every_trainer_has_a_lower_bound_and_every_setting_a_meaning(name):
    for row in getattr(trainers, name).default_settings.rows():
        assert row.meaning.endswith("."), row
        assert row.bounds or row.type in ("bool", "bool | None", "str"), row


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("nnUNetTrainerSupervised", "weight_fecl"),
        ("nnUNetTrainerSupervised", "ramp_start"),
        ("nnUNetTrainerMeanTeacher", "weight_fecl"),
        ("nnUNetTrainerMeanTeacher", "beta_max"),
        ("nnUNetTrainerCoTraining", "ema_decay"),
        ("nnUNetTrainerDyCONCoTraining", "student_zoom"),
        ("nnUNetTrainerBCP", "student_zoom"),
        ("nnUNetTrainerBCP", "top_k"),
    ],
)
def test_settings_that_a_trainer_does_not_read_are_refused(name, setting):
    trainer = getattr(trainers, name)
    values = {setting: "1"}
    with pytest.raises(UserError, match=rf"setting {setting} has no effect on {name}"):
        trainer.default_settings.override(values, trainer=name, unused=trainer.unused_settings)


def test_what_is_allowed_and_hardly_meant_is_a_warning():
    assert not list(DyCONSettings().warnings())
    (text,) = DyCONSettings(ramp_start=0.6, ramp_length=0.5).warnings()
    assert "add up to more than the training" in text
    (text,) = DyCONSettings(weight_dice=0.0, weight_uncl=0.0, weight_fecl=0.0).warnings()
    assert "all weights are 0" in text


def test_settings_from_a_file(monkeypatch, tmp_path):
    file = tmp_path / "my settings.json"
    monkeypatch.setenv("nnUNet_dycon", str(file))
    with pytest.raises(UserError, match=r"names .*my settings.json, which cannot be read"):
        overrides_from_environment()
    for content, message in (("{", "is no valid JSON"), ("[1]", "must hold a JSON object")):
        file.write_text(content)
        with pytest.raises(UserError, match=rf"my settings.json {message}"):
            overrides_from_environment()
    file.write_text('{"weight_fecl": 0.3, "num_epochs": null}')
    settings = DyCONSettings(num_epochs=3).override(overrides_from_environment())
    assert (settings.weight_fecl, settings.num_epochs) == (0.3, None)


# ----------------------------------------------------------------------------------------------- documentation

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
MARK = "<!-- made by python -m tests.test_settings -->\n"


def documented():
    """The tables of docs/settings.md."""
    dycon = nnUNetTrainerDyCON.default_settings
    header = ("setting", "type", "bounds", "default", "paper", "meaning")
    rows = [
        (f"`{i.name}`", i.type.replace(" | None", " or none"), i.bounds, i.default, i.paper, option_as_code(i.meaning))
        for i in dycon.rows()
    ]
    lines = [*table(header, rows), "", "## Other trainers", "", "Against the table above.", ""]
    own = {row.name: row for row in dycon.rows()}
    others = []
    for name in sorted(set(trainers.__all__) - {"nnUNetTrainerDyCON"}):
        trainer = getattr(trainers, name)
        mine = {row.name: row for row in trainer.default_settings.rows(trainer.unused_settings)}
        changed = [f"`{i}={row.default}`" for i, row in mine.items() if i not in own or own[i].default != row.default]
        missing = [f"`{i}`" for i in own if i not in mine]
        left_out = "all but " + ", ".join(f"`{i}`" for i in mine) if len(missing) > 20 else ", ".join(missing)
        others.append((f"`{name}`", ", ".join(changed), left_out))
    return "\n".join([*lines, *table(("trainer", "own settings and other defaults", "does not read"), others)]) + "\n"


def table(header, rows):
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def option_as_code(text):
    """An option is code, not a dash."""
    return re.sub(r"(?<!`)--\w+", r"`\g<0>`", text)


def test_the_page_has_the_settings_of_the_code():
    assert PAGE.read_text().split(MARK)[1] == documented(), "write them with python -m tests.test_settings"


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().split(MARK)[0] + MARK + documented())

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS / "gpu_check"))

import check  # noqa: E402
import plans  # noqa: E402


def test_losses_of_the_check_are_right_where_the_device_is_the_cpu(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(check, "DRY", True)
    assert check.losses("cpu", str(tmp_path / "losses.json")) == 0, capsys.readouterr().out
    rows = json.loads((tmp_path / "losses.json").read_text())
    assert {i["dtype"] for i in rows} == {"torch.float32", "torch.float16"} and all(i["ok"] for i in rows)


def test_plans_of_the_check_have_another_network_and_patch():
    configuration = {"patch_size": [9, 9], "batch_size": 7, "architecture": {"arch_kwargs": {"n_stages": 6}}}
    new = plans.rewritten({"configurations": {"2d": configuration, "2d_x": {}}}, "tiny", [4, 8], [16, 24, 32])
    assert new["plans_name"] == "tiny" and new["configurations"]["2d"]["patch_size"] == [24, 32]
    assert new["configurations"]["2d"]["architecture"]["arch_kwargs"]["strides"] == [[1, 1], [2, 2]]
    assert configuration["batch_size"] == 7


@pytest.mark.parametrize(
    ("content", "steps"), [("{}", 360), ('{"step": [{"nnU-Net [ms]": 100, "DyCON [ms]": 200}]}', 260)]
)
def test_length_of_the_trainings_follows_the_measured_step(tmp_path, capsys, content, steps):
    (tmp_path / "step.json").write_text(content)
    check.steps_in(str(tmp_path / "step.json"), "270")
    assert int(capsys.readouterr().out) == steps


def test_script_is_sound_and_refuses_unknown_options():
    script = str(SCRIPTS / "gpu_check.sh")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    answer = subprocess.run(["bash", script, "--help"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2 and "--packed FOLDER" in answer.stdout

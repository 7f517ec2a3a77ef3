"""What is built and handed out: wheel and sdist install and import, and the files beside the code agree with it."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import nnunet_dycon
from tests.helpers.project import dependencies

ROOT = Path(__file__).resolve().parents[1]
FILE = "import nnunet_dycon; print(nnunet_dycon.__file__)"
FIND = """
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
assert recursive_find_trainer_class_by_name("nnUNetTrainerDyCON").__module__.startswith("nnunet_dycon.trainers")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel and an sdist."""
    sdist = pytest.importorskip("hatchling.builders.sdist").SdistBuilder(str(ROOT))
    wheel = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    folder = str(tmp_path_factory.mktemp("dist"))
    return {
        "wheel": Path(next(wheel.build(directory=folder, versions=["standard"]))),
        "sdist": Path(next(sdist.build(directory=folder, versions=["standard"]))),
    }


def test_contents(built):
    with zipfile.ZipFile(built["wheel"]) as archive:
        names = set(archive.namelist())
    assert {"nnunet_dycon_startup.pth", "nnunet_dycon_startup.py", "nnunet_dycon/__init__.py"} <= names
    assert {i.partition("/")[0] for i in names if "/" in i} == {
        "nnunet_dycon",
        f"nnunet_dycon-{nnunet_dycon.__version__}.dist-info",
    }
    with tarfile.open(built["sdist"]) as archive:
        inside = {i.partition("/")[2] for i in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "tests/conftest.py",
        "docs/index.md",
    } <= inside


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installs_and_is_found(built, kind, tmp_path):
    """In an environment of its own, which borrows the dependencies from this one."""
    pytest.importorskip("pip")
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False, symlinks=os.name != "nt")
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet") and key != "PYTHONPATH"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=kept)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    own = Path(run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (own / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--quiet", "--no-index", "--no-deps")
    run(*pip, "--no-build-isolation", built[kind])
    assert run(scripts / "nnunet-dycon", "--version").strip() == f"nnunet-dycon {nnunet_dycon.__version__}"
    assert Path(run(scripts / "python", "-c", FILE).strip()).is_relative_to(own)
    if kind == "wheel":  # the search imports nnU-Net and takes a while
        run(scripts / "python", "-c", FIND)
    shutil.rmtree(environment)


def test_what_the_package_imports_is_required():
    imported = set()
    for file in Path(nnunet_dycon.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {i.name.partition(".")[0] for i in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    distributions = importlib.metadata.packages_distributions()
    used = [i for module in imported - sys.stdlib_module_names for i in distributions.get(module, [])]
    names = {i.lower().replace("_", "-") for i in used}
    assert names - {"nnunet-dycon"} <= dependencies().keys()


def test_citation_names_the_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == nnunet_dycon.__version__ and citation["license"] == "Apache-2.0"
    assert citation["references"][0]["authors"][0]["family-names"] == "Assefa"
    assert f"## {nnunet_dycon.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_workflow_and_the_hooks_run_what_the_script_runs():
    steps = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["steps"]
    assert any("bash scripts/test.sh" in step.get("run", "") for step in steps)
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    script = (ROOT / "scripts/test.sh").read_text()
    assert repository["repo"] == "local" and len(repository["hooks"]) == 3
    for hook in repository["hooks"]:
        assert f"\n{hook['entry']}" in script, hook["id"]

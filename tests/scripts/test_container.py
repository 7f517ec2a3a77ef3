"""The container as far as a machine without Docker can tell: instructions, versions, and what its steps run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import nnunet_dycon
from tests.helpers.project import dependencies

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "scripts/docker"


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Name and text of each instruction, comments left out and lines joined."""
    lines = [i for i in (FOLDER / "Dockerfile").read_text().splitlines() if not i.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, text.strip()) for name, _, text in (i.partition(" ") for i in joined.splitlines() if i.strip())]


def pins() -> dict[str, Version]:
    lines = [i for i in (FOLDER / "constraints.txt").read_text().splitlines() if i and not i.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", i) for i in lines)
    return {name: Version(version) for name, version in (i.split("==") for i in lines)}


def test_instructions_follow_the_rules(instructions):
    """What hadolint looks for."""
    known = {"FROM", "RUN", "ENV", "COPY", "USER", "WORKDIR", "CMD"}
    assert {name for name, _ in instructions} <= known
    assert re.fullmatch(r"[\w/]+:[\w.-]*\d[\w.-]*", instructions[0][1]) and instructions[0][0] == "FROM"  # a fixed tag
    for name, text in instructions:
        if name == "RUN":
            assert subprocess.run(["bash", "-n", "-c", text]).returncode == 0
        if "apt-get install" in text:
            assert text.startswith("apt-get update") and text.endswith("rm -rf /var/lib/apt/lists/*")
            assert "--yes --no-install-recommends" in text
        if "pip install" in text:
            assert "--no-cache-dir --constraint /build/constraints.txt" in text
        if name == "WORKDIR":
            assert text.startswith("/")
        if name == "COPY":
            assert all((ROOT / i).exists() for i in text.split()[:-1]) and text.split()[-1].startswith("/build/")
        if name == "CMD":
            assert json.loads(text)[0] == "nnunet-dycon"
    assert [text for name, text in instructions if name == "USER"] == ["nnunet"]  # not root


def test_all_versions_are_fixed_and_allowed():
    versions = pins()
    nnunet = map(Requirement, importlib.metadata.requires("nnunetv2") or [])
    for requirement in [*dependencies().values(), *(i for i in nnunet if i.marker is None)]:
        name = requirement.name.lower().replace("_", "-")
        assert name in versions and versions[name] in requirement.specifier, requirement
    text = (FOLDER / "Dockerfile").read_text()
    assert f"nnunet-dycon:{nnunet_dycon.__version__}" in text


def test_the_steps_run(instructions, tmp_path):
    """In a folder in the place of /, the system's package manager and pip only recorded."""
    recorded = tmp_path / "recorded"
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name in ("apt-get", "useradd", "chown", "pip"):
        (stubs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {recorded}\n')
        (stubs / name).chmod(0o755)
    tools = Path(sys.executable).parent
    path = f"{stubs}:{tools}:/usr/bin:/bin"
    for name, text in instructions:
        inside = re.sub(r"(?<=[\s:=])/(?=opt|build|var|data)", f"{tmp_path}/", f" {text}").strip()
        if name == "COPY":
            *sources, target = inside.split()
            Path(target).mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", *sources, target], cwd=ROOT, check=True)
        elif name == "RUN":
            inside = inside.replace("python3 -m venv", "python3 -m venv --without-pip")
            environment = os.environ | {"PATH": path}
            subprocess.run(["bash", "-euc", inside], env=environment, cwd=tmp_path, check=True)
    calls = recorded.read_text()
    assert (tmp_path / "opt/nnunet/bin/python").exists() and (tmp_path / "data").is_dir()
    assert calls.count("pip install") == 2 and (tmp_path / "build/constraints.txt").exists()

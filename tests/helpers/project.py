"""What pyproject.toml says, read as the build reads it: an editable installation's own record may be older."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def dependencies() -> dict[str, Requirement]:
    """What the package requires, by name in pip's normal form."""
    metadata = pytest.importorskip("hatchling.metadata.core")
    manager = pytest.importorskip("hatchling.plugin.manager").PluginManager()
    requirements = map(Requirement, metadata.ProjectMetadata(str(ROOT), manager).core.dependencies)
    return {i.name.lower().replace("_", "-"): i for i in requirements}

"""The house's plan: rooms, the direction of imports between them, tests beside them, functions short and simple."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nnunet_dycon"

# a room may import from its own floor and from those below it, never from above
FLOORS = [
    {"errors", "settings"},
    {"files"},
    {"losses", "dataset"},
    {"data", "training", "models", "pictures"},
    {"trainers"},
    {"startup"},
    {"tools", "torchrun", "ext_trainer"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# the tools that run others: a comparison is made of evaluations and predicted masks
RUNS_OTHERS = {"tools/compare": {"tools/evaluate", "tools/pseudo_label"}}


def modules() -> dict[str, Path]:
    """Every module's name below the package, as files/pool or files, and its file."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {str(i.relative_to(PACKAGE).with_suffix("")).removesuffix("/__init__"): i for i in files}


def imported(name: str, file: Path) -> Iterator[str]:
    """Names of the package's modules that a module imports, at its top or in a function."""
    known = modules()
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [i.name for i in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports"
            names = [f"{node.module}.{i.name}" for i in node.names]
        for i in names:
            parts = i.split(".")
            if parts[0] != "nnunet_dycon":
                continue
            while parts[1:] and "/".join(parts[1:]) not in known:
                parts.pop()  # what is imported from a module
            if parts[1:] and "/".join(parts[1:]) != name:
                yield "/".join(parts[1:])


def room(name: str) -> str:
    return name.split("/")[0]


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    """What each module imports from the package."""
    return {name: set(imported(name, file)) for name, file in modules().items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of the graph, or nothing."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for target in sorted(graph.get(node, ())):
                if found := visit(target, [*path, node]):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


def test_the_top_holds_rooms_errors_and_settings():
    files = {i.name for i in PACKAGE.iterdir() if i.is_file()}
    rooms = {i.name for i in PACKAGE.iterdir() if i.is_dir() and i.name != "__pycache__"}
    assert files == {"__init__.py", "errors.py", "settings.py"}
    assert rooms == set(FLOOR) - {"errors", "settings"}


def test_no_arrow_points_up(arrows):
    up = [f"{a} -> {b}" for a in arrows for b in arrows[a] if FLOOR[room(b)] > FLOOR.get(room(a), 0)]
    assert not up


def test_only_the_command_line_imports_tools(arrows):
    other = [f"{a} -> {b}" for a in arrows for b in arrows[a] if room(b) == "tools" and room(a) not in ("cli", "tools")]
    assert not other


def test_a_tool_imports_no_other_tool(arrows):
    def tool(name: str) -> str:
        return "/".join(name.split("/")[:2])

    other = [(a, b) for a in arrows for b in arrows[a] if {room(a), room(b)} == {"tools"} and tool(a) != tool(b)]
    assert not [f"{a} -> {b}" for a, b in other if tool(b) not in RUNS_OTHERS.get(tool(a), ())]


def test_commands_import_their_tools_when_they_run():
    """So that --help takes no longer than argparse."""
    for name, file in modules().items():
        if room(name) == "cli":
            top = ast.Module([i for i in ast.parse(file.read_text()).body if isinstance(i, ast.ImportFrom)], [])
            early = {i.module for i in top.body if room(str(i.module).partition(".")[2].replace(".", "/")) == "tools"}
            assert not early, f"{file.name} imports {early} at its top"


def test_no_circle(arrows):
    packages = {a: {b for b in arrows[a] if not a.startswith(f"{b}/")} for a in arrows}
    assert not circle(packages)
    rooms: dict[str, set[str]] = {}
    for name, targets in arrows.items():
        rooms.setdefault(room(name), set()).update(room(i) for i in targets if room(i) != room(name))
    assert not circle(rooms)


def test_tests_lie_in_the_folders_of_the_package():
    folders = {i.parent.relative_to(ROOT / "tests").as_posix() for i in ROOT.glob("tests/**/test_*.py")}
    assert folders - {"."} <= {i.name for i in PACKAGE.iterdir() if i.is_dir()} | {"scripts"}
    alone = {i.name for i in ROOT.glob("tests/test_*.py")}
    assert alone == {"test_docs.py", "test_layout.py", "test_package.py", "test_settings.py"}


def functions() -> Iterator[tuple[str, int]]:
    """Each function of the package, and the lines of its body without the docstring."""
    for name, file in modules().items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                yield f"{name}:{node.lineno} {node.name}", lines


def test_functions_are_short():
    lines = dict(functions())
    assert not {name: count for name, count in lines.items() if count > 40}
    assert np.percentile(list(lines.values()), 90) <= 17


def test_functions_are_simple():
    complexity = pytest.importorskip("radon.complexity", reason="radon is among the test tools")
    graded = {
        f"{name}:{i.lineno} {i.name}": i.complexity
        for name, file in modules().items()
        for i in complexity.cc_visit(file.read_text())
    }
    assert not {name: value for name, value in graded.items() if value > 10}  # grade B ends at 10


def test_the_layout_in_contributing_lists_every_room():
    text = (ROOT / "CONTRIBUTING.md").read_text().split("## Layout")[1]
    rooms = [i.strip().partition(" ")[0].rstrip("/") for i in text.splitlines() if i.startswith("      ")]
    inside = rooms[: rooms.index("cli") + 1]
    assert {i.removesuffix(".py") for i in inside} == set(FLOOR)
    assert inside == sorted(inside, key=lambda i: FLOOR[i.removesuffix(".py")])
    scripts = {i.name for i in (ROOT / "scripts").iterdir() if i.is_dir()}
    assert scripts <= set(rooms)

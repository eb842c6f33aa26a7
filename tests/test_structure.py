"""Tests of the structure: who may import whom, what stays light, how large a folder is, which names are unique."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARROWS: dict[str, set[str]] = {
    "common": set(),
    "kernels": {"common"},
    "results": {"common"},
    "execution": {"common", "kernels", "results"},
    "autotune": {"common", "execution", "kernels", "results"},
    "suites": {"common", "autotune", "execution", "kernels", "results"},
    "reports": {"common", "results"},
    "integrations": {"common", "kernels", "autotune", "results"},
    "cli": {"common", "suites", "autotune", "execution", "results", "reports", "kernels", "integrations"},
}


def imports(source: Path) -> set[str]:
    """Return everything of the package that a file imports, as dotted paths of modules and of names in them."""
    package = ["moebench", *source.relative_to(ROOT).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("moebench.")}


def imported_folders(source: Path) -> set[str]:
    """Return the folders of the house that a file imports, whether relatively or by the name of the package."""
    return {name.split(".")[1] for name in imports(source)}


@pytest.mark.parametrize("folder", ARROWS)
def test_arrows_run_one_way(folder: str) -> None:
    for source in (ROOT / folder).rglob("*.py"):
        assert imported_folders(source) <= ARROWS[folder] | {folder}, source


def test_nothing_is_imported_as_if_the_folders_were_top_level() -> None:
    for source in (path for folder in (*ARROWS, "tests") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                assert node.module.partition(".")[0] not in ARROWS, source


IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if heavy := {"torch", "triton", "cupy"} & set(sys.modules):
        sys.exit(f"{name} imports {heavy}")
"""


@pytest.mark.parametrize(
    "modules",
    [
        ["reports", *sorted(f"reports.{path.stem}" for path in (ROOT / "reports").glob("*.py"))],
        [
            "cli.main",
            "suites.plan",
            "suites.runner",
            "suites.prediction.predict",
            "results.record.store",
            "kernels.problem.models",
        ],
    ],
    ids=["reports", "what only asks and waits"],
)
def test_who_does_without_torch_imports_neither_torch_nor_triton_nor_cupy(modules: list[str]) -> None:
    """One after the other in a fresh process, which stops at the first that does."""
    names = [f"moebench.{module}" for module in modules if not module.endswith("__init__")]
    command = [sys.executable, "-c", IMPORT, *names]
    run = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT / "docs")
    assert run.returncode == 0, run.stderr


def test_every_packaged_folder_is_listed_and_typed() -> None:
    listed = (ROOT / "pyproject.toml").read_text()
    for folder in ARROWS:
        for init in (ROOT / folder).rglob("__init__.py"):
            package = ".".join(init.relative_to(ROOT).parts[:-1])
            assert f'"moebench.{package}"' in listed
        assert (ROOT / folder / "py.typed").exists()


MODULES = sorted(path for folder in ARROWS for path in (ROOT / folder).rglob("*.py"))
MOST_MODULES = 14
LISTS = {"kernels/implementations", "kernels/problem/routers", "suites/sweeps"}
"""Folders that list what competes and what is asked: they grow with every addition."""


def test_no_folder_has_more_modules_than_a_glance_takes_in() -> None:
    own = Counter(path.parent for path in MODULES if path.stem != "__init__")
    sizes = {folder.relative_to(ROOT).as_posix(): size for folder, size in own.items()}
    assert {name: size for name, size in sizes.items() if size > MOST_MODULES and name not in LISTS} == {}


def test_no_two_modules_share_a_name() -> None:
    """Left out are the command line, named for what it runs, suites, for what they ask, and routers, for a method."""
    apart = {"sweeps", "routers"}
    named = [path for path in MODULES if path.relative_to(ROOT).parts[0] != "cli" and path.parent.name not in apart]
    assert repeated(path.stem for path in named if path.stem != "__init__") == []


def test_no_two_classes_share_a_name() -> None:
    trees = [ast.parse(path.read_text()) for path in MODULES]
    assert repeated(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)) == []


def test_every_module_has_a_docstring() -> None:
    assert [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def room(top: str, *rest: str) -> str:
    """Return the room of a module or an imported name: its folder inside a top folder, or itself.

    Folders inside a room belong to it, and all verbs of the command line are one room.
    """
    return f"{top}.{rest[0].removesuffix('.py')}" if rest and top != "cli" else top


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        one = room(*path.relative_to(ROOT).parts)
        graph[one] |= {room(*name.split(".")[1:]) for name in imports(path)} - {one}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def repeated(names: Iterator[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)

"""Tests of what is distributed: no file that the package reads is left out, no rule is about nothing.

`nox -s dist` builds and installs; here the rules are compared with the folders, in a moment.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from moebench.results.counters import ACCEPTED, ACCEPTED_HERE

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS = {package: ROOT / folder for package, folder in SETUPTOOLS["package-dir"].items()}
PATTERNS = SETUPTOOLS["package-data"]["*"]
NOT_PACKAGED = {"results/recorded", "results/regression/history"}
"""Folders of records: those of the repository's own documentation and studies, and those that a machine keeps."""


def data_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a packaged folder that are no modules, without those of the packages inside it."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "__pycache__" and path not in FOLDERS.values():
            yield from data_files(path)
        elif path.is_file() and path.suffix != ".py":
            yield path


def left_out(root: Path, patterns: list[str]) -> list[str]:
    """Return the data files of a packaged folder that no pattern names, by setuptools' rule: from that folder down."""
    named = {path for pattern in patterns for path in root.glob(pattern)}
    names = [path.relative_to(ROOT) for path in data_files(root) if path not in named]
    return [name.as_posix() for name in names if name.parent.as_posix() not in NOT_PACKAGED]


@pytest.mark.parametrize("package", FOLDERS)
def test_every_data_file_of_a_package_is_distributed(package: str) -> None:
    assert left_out(FOLDERS[package], PATTERNS) == []


def test_a_file_that_no_rule_names_is_found() -> None:
    assert left_out(ROOT / "kernels/problem", ["models.toml"]) == []
    assert left_out(ROOT / "kernels/cuda", ["models.toml"]) == [
        "kernels/cuda/route_sorting.cu",
        "kernels/cuda/topk_routing.cu",
    ]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_rule_names_a_file(pattern: str) -> None:
    assert any(path for folder in FOLDERS.values() for path in folder.glob(pattern))


def test_every_package_has_its_folder_and_every_folder_its_package() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(FOLDERS)
    assert [name for name, folder in FOLDERS.items() if not (folder / "__init__.py").is_file()] == []


def test_the_accepted_counters_of_the_package_are_those_of_the_checkout() -> None:
    assert ACCEPTED.resolve() == ROOT / ACCEPTED_HERE


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {PROJECT['project']['version']}\n" in (ROOT / "CITATION.cff").read_text()

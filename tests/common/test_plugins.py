"""Plugins are found by listing files, imported when they are asked for; an unknown name gets the nearest ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moebench.common.names import UnknownName
from moebench.common.plugins import Catalog


@pytest.fixture
def gadgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog[str]]:
    """Make a package of two plugins, of which one cannot be imported, beside files that are not plugins."""
    package = tmp_path / "gadget_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "whisk.py").write_text("gadget = 'a whisk'\n")
    (package / "broken.py").write_text("raise RuntimeError('imported')\n")
    (package / "_shared.py").write_text("raise RuntimeError('imported')\n")
    (package / "notes.txt").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield Catalog("gadget", "gadget_package", "gadget")
    for name in [name for name in sys.modules if name.startswith("gadget_package")]:
        del sys.modules[name]


def test_names_are_the_public_modules_in_order_and_nothing_is_imported(gadgets: Catalog[str]) -> None:
    assert gadgets.names() == ["broken", "whisk"]
    assert "gadget_package.broken" not in sys.modules


def test_plugin_is_the_attribute_of_its_module(gadgets: Catalog[str]) -> None:
    assert gadgets.load("whisk") == "a whisk"


def test_a_plugin_that_is_no_python_has_a_summary_all_the_same(gadgets: Catalog[str], tmp_path: Path) -> None:
    (tmp_path / "gadget_package" / "broken.py").write_text("\ngadget =\n")
    assert gadgets.summary("broken") == "not valid Python: invalid syntax in line 2"


def test_error_inside_a_plugin_is_its_own(gadgets: Catalog[str]) -> None:
    with pytest.raises(RuntimeError, match="imported"):
        gadgets.load("broken")


@pytest.mark.parametrize("name", ["wisk", "Whisk", "WHISKS"])
def test_misspelt_name_suggests_the_right_one(gadgets: Catalog[str], name: str) -> None:
    with pytest.raises(UnknownName, match=f"no gadget is named {name!r}: did you mean whisk"):
        gadgets.load(name)


@pytest.mark.parametrize("name", ["_shared", "notes", "__init__", "zzz"])
def test_name_that_is_no_plugin_is_unknown(gadgets: Catalog[str], name: str) -> None:
    with pytest.raises(UnknownName, match=f"no gadget is named {name!r}"):
        gadgets.load(name)

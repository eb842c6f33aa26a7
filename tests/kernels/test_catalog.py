"""Plugins are found by listing files, imported when asked for, and missed with a helpful name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from moebench.common.names import UnknownName, unknown
from moebench.kernels.catalog import KERNELS, Catalog, Kernels
from moebench.kernels.kernel import Kernel
from moebench.kernels.problem import Problem


@pytest.fixture
def gadgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog[str]]:
    """A package of two plugins, of which one cannot be imported, beside files that are no plugins."""
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
    assert gadgets.summary("broken") == "no Python: invalid syntax in line 2"


def test_error_inside_a_plugin_is_its_own(gadgets: Catalog[str]) -> None:
    with pytest.raises(RuntimeError, match="imported"):
        gadgets.load("broken")


@pytest.mark.parametrize(
    "text",
    ["raise RuntimeError('built for another driver\\nline two')", "kernel =", "raise SystemExit(3)", "kernels = 1"],
    ids=["raises", "no Python", "exits", "no kernel"],
)
def test_a_kernel_that_cannot_be_imported_refuses_every_problem(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"kernels_{abs(hash(text))}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / package / "own.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    kernels = Kernels("kernel", package, "kernel")
    problem, cpu = Problem(T=8, D=8, F=8, E=2, K=1), torch.device("cpu")
    kernel = kernels.load("own")
    assert kernel is kernels.load("own")
    assert kernel.name == "own"
    reason = kernel.supports(problem, cpu)
    assert reason
    assert reason.startswith("own.py cannot be imported (")
    assert "\n" not in reason
    with pytest.raises(ImportError, match=r"own\.py cannot be imported"):
        kernel.build(problem, {}, cpu)
    with pytest.raises(UnknownName):
        kernels.load("others")


@pytest.mark.parametrize("name", ["wisk", "Whisk", "WHISKS"])
def test_misspelt_name_suggests_the_right_one(gadgets: Catalog[str], name: str) -> None:
    with pytest.raises(UnknownName, match=f"no gadget is named {name!r}: did you mean whisk"):
        gadgets.load(name)


@pytest.mark.parametrize("name", ["_shared", "notes", "__init__", "zzz"])
def test_name_that_is_no_plugin_is_unknown(gadgets: Catalog[str], name: str) -> None:
    with pytest.raises(UnknownName, match=f"no gadget is named {name!r}"):
        gadgets.load(name)


def test_name_far_from_all_lists_all() -> None:
    assert str(unknown("gadget", "zzz", ["broken", "whisk"])).endswith("there are broken, whisk")


def test_nearest_names_come_first_and_keep_their_case() -> None:
    message = str(unknown("model", "mixtral-8x7", ["DBRX", "Mixtral-8x22B", "Mixtral-8x7B"]))
    assert message == "no model is named 'mixtral-8x7': did you mean Mixtral-8x7B or Mixtral-8x22B?"


def test_every_implementation_is_a_kernel_named_like_its_file() -> None:
    names = KERNELS.names()
    assert "loop" in names
    kernel = KERNELS.load("loop")
    assert isinstance(kernel, Kernel)
    assert kernel.name == "loop"

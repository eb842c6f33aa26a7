"""Kernels are found by listing files; one whose file cannot be imported refuses every problem and says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moebench.common.names import UnknownName
from moebench.kernels.catalog import KERNELS, Kernels
from moebench.kernels.kernel import Kernel
from moebench.kernels.problem import Problem


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


def test_every_implementation_is_a_kernel_named_like_its_file() -> None:
    names = KERNELS.names()
    assert "loop" in names
    kernel = KERNELS.load("loop")
    assert isinstance(kernel, Kernel)
    assert kernel.name == "loop"

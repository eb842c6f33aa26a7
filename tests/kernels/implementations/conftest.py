"""Marks of tests that every implementation takes, most of them too slow for Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from moebench.kernels.implementations._triton import TritonKernel


@pytest.hookimpl(tryfirst=True)  # before cases are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as exhaustive what an interpreted kernel is given beyond the values of the test's ``interpreted`` mark."""
    if torch.cuda.is_available():
        return
    for item in items:
        mark = item.get_closest_marker("interpreted")
        if mark is None or not isinstance(item, pytest.Function):
            continue
        case = item.callspec.params
        if isinstance(case["kernel"], TritonKernel) and any(case[name] != mark.kwargs[name] for name in mark.kwargs):
            item.add_marker(pytest.mark.exhaustive)

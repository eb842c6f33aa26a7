"""The attributes of a kernel agree with its refusals, so that suites and `auto` may choose by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from moebench.kernels.catalog import KERNELS
from moebench.kernels.kernel import Kernel
from moebench.kernels.problem import Problem
from moebench.kernels.problem.trace import load_of
from moebench.kernels.problem.traces.trace_writer import write_ids

PLAIN = Problem(T=32, D=128, F=128, E=4, K=1, dtype="bfloat16")
CPU = torch.device("cpu")

every_kernel = pytest.mark.parametrize("kernel", [KERNELS.load(name) for name in KERNELS.names()], ids=lambda k: k.name)


@every_kernel
def test_a_capacity_is_refused_by_all_that_do_not_drop(kernel: Kernel) -> None:
    refusal = kernel.refuses(PLAIN.replace(capacity_factor=1.0))
    assert kernel.drops == (refusal is None), refusal


@every_kernel
def test_ranks_are_refused_by_all_that_do_not_move_rows_between_them(kernel: Kernel) -> None:
    refusal = kernel.refuses(PLAIN.replace(ranks=2, capacity_factor=1.0 if kernel.drops else None))
    assert kernel.between_ranks == (refusal is None), refusal


@every_kernel
def test_missing_routes_are_refused_by_all_that_read_every_one(kernel: Kernel, tmp_path: Path) -> None:
    write_ids(tmp_path / "routes.npy", np.array([[0], [-1]]))
    load = load_of(tmp_path / "routes.npy")
    refusal = kernel.refuses(PLAIN.replace(load=load, capacity_factor=1.0 if kernel.drops else None))
    chooses = kernel.family == "router"  # and a recorded load is chosen already
    assert (kernel.reads_every_route or chooses) == (refusal is not None), refusal


@every_kernel
def test_a_reference_rate_answers_no_layer_and_every_other_kernel_does(kernel: Kernel) -> None:
    assert kernel.is_reference == (not kernel.answers(PLAIN))
    assert kernel.is_reference == (kernel.family in {"reference", "router"})


@every_kernel
def test_a_kernel_between_ranks_multiplies_by_the_preferred_ones(kernel: Kernel) -> None:
    if kernel.between_ranks:
        local = [config["local"] for config in kernel.space(PLAIN, CPU)]
        assert local == [one.name for one in KERNELS.preferred("cpu") if one.supports(PLAIN, CPU) is None]


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_a_preferred_kernel_computes_the_layer_on_one_rank_with_routes_missing(device_type: str) -> None:
    preferred = KERNELS.preferred(device_type)
    assert preferred
    for kernel in preferred:
        declared = (kernel.between_ranks, kernel.is_reference, kernel.reads_every_route)
        assert not any(declared), kernel.name
    assert len({kernel.preference[device_type] for kernel in preferred}) == len(preferred), "the order has no ties"

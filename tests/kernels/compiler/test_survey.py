"""The choice of layers to compile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import pytest

from moebench.common.names import UnknownName
from moebench.kernels.catalog import KERNELS
from moebench.kernels.compiler import survey
from moebench.kernels.compiler.survey import cases, compiled_kernels, references
from moebench.kernels.problem import DType


def test_every_kernel_has_a_default_case_for_every_reference() -> None:
    names = compiled_kernels()
    assert {"triton_scatter", "triton_padded"} <= set(names)
    found = cases("sm_90", [], references(), whole=False)
    asked = {(case.kernel, case.title.removesuffix(" cf=1")) for case in found}
    assert len(asked) == len(found)
    quantised = [problem for _, problem in references() if problem.quantised]
    assert len(found) == len(names) * len(references()) - len(quantised), "block_sparse has no float8"
    padded = [case for case in found if case.kernel == "triton_padded"]
    assert all(case.problem.capacity_factor == 1 for case in padded)


def test_a_triton_kernel_is_compiled_whatever_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"mine": KERNELS.load("triton_padded"), "triton_kernels_moe": KERNELS.load("triton_kernels_moe")}
    monkeypatch.setattr(survey, "KERNELS", SimpleNamespace(names=lambda: list(named), load=named.__getitem__))
    assert compiled_kernels() == ["mine"], "the other is a peer's"


def test_references_are_all_dtypes_and_both_modes_or_what_is_asked_for() -> None:
    problems = [problem for _, problem in references()]
    assert {problem.dtype for problem in problems} == set(get_args(DType))
    assert {problem.mode for problem in problems} == {"forward", "train"}
    asked = references("qwen3-30b-a3b", "float16")
    assert {(name, problem.dtype, problem.E) for name, problem in asked} == {("Qwen3-30B-A3B", "float16", 128)}


def test_a_whole_space_is_all_valid_configurations_the_default_first() -> None:
    problems = references("Mixtral-8x7B", "bfloat16")[:1]
    (default,) = cases("sm_80", ["triton_padded"], problems, whole=False)
    found = cases("sm_80", ["triton_padded"], problems, whole=True)
    assert found[0] == default
    assert len(found) > 10
    assert not any(case.config["descriptors"] for case in found)  # an A100 has none


@pytest.mark.parametrize(
    ("target", "kernel", "remedy"),
    [
        ("sm90", [], "did you mean sm_90"),
        ("sm_90", ["triton_scater"], "did you mean triton_scatter"),
        ("sm_90", ["scatter"], "no Triton kernel is named 'scatter'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(target: str, kernel: list[str], remedy: str) -> None:
    with pytest.raises(UnknownName, match=remedy):
        cases(target, kernel, references(), whole=False)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean bfloat16"):
        references(dtype="bfloat")

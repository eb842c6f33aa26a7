"""Tuned tables become layers to export, each under one load and with its origin."""

from __future__ import annotations

import pytest
from tables import bucket, entry, environment, table

from moebench.autotune.tables.export import NotExportable
from moebench.autotune.tables.tuned_tiles import tuned
from moebench.kernels.problem import Problem
from moebench.kernels.triton.vllm_tiles import KNOBS, OWN_CHOICE
from moebench.kernels.tuned.tuned_table import TunedTable

SHAPE = Problem(T=0, D=2048, F=1024, E=64, K=8, dtype="bfloat16")
CONFIGS = (OWN_CHOICE, *(dict(zip(KNOBS, (m, 64, 128, 1, 4, 3), strict=True)) for m in (16, 32, 64)))
LOADS = {"uniform": ("uniform",), "zipf:1.2": ("zipf:1.2",), "robust": ("uniform", "zipf:1.2")}


def tuned_under(*loads: str) -> TunedTable:
    """Return a table with a different choice for each load at T = 64, and the default at T = 16."""
    times = (3.0, 2.0, 2.0, 2.0)
    entries = [
        entry(
            bucket(16, times, chosen=0),
            bucket(64, times, chosen=1 + list(LOADS).index(load)),
            shape=SHAPE,
            loads=LOADS[load],
            configs=CONFIGS,
        )
        for load in loads
    ]
    return table(*entries, kernel="vllm_fused_moe", environment=environment(device="NVIDIA H200", triton="3.5.1"))


def test_a_layer_is_read_from_a_table_with_its_choice_for_each_batch() -> None:
    (layer,) = tuned(tuned_under("uniform"))
    assert (layer.kernel, layer.device, layer.triton) == ("vllm_fused_moe", "NVIDIA H200", "3.5.1")
    assert (layer.E, layer.F, layer.D, layer.K, layer.dtype) == (64, 1024, 2048, 8, "bfloat16")
    assert layer.configs == {16: OWN_CHOICE, 64: CONFIGS[1]}
    assert layer.about["environment"]["triton"] == "3.5.1"


@pytest.mark.parametrize(
    ("loads", "asked", "chosen"),
    [
        (("uniform", "zipf:1.2", "robust"), None, "robust"),
        (("uniform", "zipf:1.2"), None, "uniform"),
        (("zipf:1.2",), None, "zipf:1.2"),
        (("uniform", "zipf:1.2", "robust"), "zipf:1.2", "zipf:1.2"),
    ],
)
def test_an_engine_has_no_load_so_one_is_chosen(loads: tuple[str, ...], asked: str | None, chosen: str) -> None:
    (layer,) = tuned(tuned_under(*loads), asked)
    assert layer.configs[64] == CONFIGS[1 + list(LOADS).index(chosen)]


def test_a_load_that_was_not_tuned_for_is_refused_with_those_that_were() -> None:
    with pytest.raises(NotExportable, match="there are uniform, robust, one of which --load takes"):
        tuned(tuned_under("uniform", "robust"), "hot")

"""Counters of machine code: every field of every launch is counted, under a name that can be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from moebench.kernels.compiler.machine_code import CodeCounters
from moebench.kernels.compiler.survey import CompileCase, CompileOutcome
from moebench.kernels.problem.models import model
from moebench.results.counter_changes import changes
from moebench.results.counters import Value
from moebench.suites.gate.compiled_layers import FAMILY, counted, launch_counters

CODE = CodeCounters(
    warps=8,
    occupancy=2,
    registers=128,
    shared_bytes=65536,
    code_bytes=4096,
    tensor_core={"HGMMA": 4},
    bulk_copies={"UTMALDG": 2, "LDGSTS": 1},
)
CASE = CompileCase(
    kernel="triton_scatter",
    model="Mixtral-8x7B",
    problem=model("Mixtral-8x7B").problem(T=16),
    config={"up": "16x128x128w4s4", "pdl": False},
    target="sm_90",
)
AT = "triton_scatter on sm_90, Mixtral-8x7B T=16 forward float32"


def test_a_layer_has_its_configuration_and_its_launches() -> None:
    found = counted([CompileOutcome(case=CASE, launches={"up": CODE})])
    assert found.broken == {}
    assert found.families == {
        FAMILY: {
            AT: {"config": "up=16x128x128w4s4 pdl=False"},
            f"{AT}, up": {
                "warps": 8,
                "occupancy": 2,
                "registers": 128,
                "shared_bytes": 65536,
                "code_bytes": 4096,
                "spill_bytes": 0,
                "tensor_core HGMMA": 4,
                "bulk_copies UTMALDG": 2,
                "bulk_copies LDGSTS": 1,
            },
        }
    }


def test_every_field_that_is_not_nothing_is_counted() -> None:
    code = dataclasses.replace(CODE, spill_bytes=16, tensor_columns=128, spills={"STL": 4})
    assert {name.partition(" ")[0] for name in launch_counters(code)} == {
        field.name for field in dataclasses.fields(CodeCounters)
    }


def test_a_layer_that_does_not_compile_is_broken_and_has_no_counters() -> None:
    found = counted([CompileOutcome(case=CASE, launches={"up": CODE}, error="down: out of registers")])
    assert found.broken == {AT: "does not compile: down: out of registers"}
    assert found.families == {FAMILY: {}}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"registers": 136}, "worse: registers of a thread 128 -> 136 (+6.25 %)"),
        ({"spill_bytes": 8}, "worse: spilled bytes of a thread 0 -> 8 B"),
        ({"shared_bytes": 65552}, "worse: shared memory of a program 65.54 -> 65.55 kB (+0.0244 %)"),
        ({"occupancy": 1}, "worse: programs on a processor 2 -> 1 (-50 %)"),
        ({"tensor_core": {"HMMA": 64}}, "missing: tensor-core instructions HGMMA"),
        ({"bulk_copies": {"LDGSTS": 9}}, "missing: copies past the registers UTMALDG"),
    ],
)
def test_code_that_gets_worse_has_to_be_accepted_and_its_reverse_has_not(
    change: Mapping[str, object], text: str
) -> None:
    before: Mapping[str, Value] = launch_counters(CODE)
    after = launch_counters(dataclasses.replace(CODE, **change))  # type: ignore[arg-type]
    bad = [found for found in changes({AT: before}, {AT: after}, refused={}, broken={}) if found.direction.bad]
    assert [f"{found.direction}: {found.text}" for found in bad] == [text]
    if "tensor_core" not in change:
        back = changes({AT: after}, {AT: before}, refused={}, broken={})
        assert not any(found.direction.bad for found in back)

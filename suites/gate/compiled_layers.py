"""Counters of machine code: every Triton kernel compiled for every GPU of the table, in its default configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...kernels.compiler.machine_code import CodeCounters
from ...kernels.compiler.survey import CompileCase, CompileOutcome, cases, references
from ...kernels.config import Config
from ...kernels.hardware.gpus import HARDWARE
from ...results.counters import Value
from .counted_cases import Counted

FAMILY = "machine_code"


def layers(kernels: Sequence[str]) -> list[CompileCase]:
    """Return the layers to compile for some kernels; without names for all in Triton.

    Raises:
        UnknownName: for a kernel that is not one of ours in Triton.
    """
    problems = references()
    return [case for target in HARDWARE for case in cases(target, kernels, problems, whole=False)]


def counted(outcomes: Sequence[CompileOutcome]) -> Counted:
    """Return the configuration of every layer, and the counters of every launch; ``broken`` do not compile."""
    points: dict[str, Mapping[str, Value]] = {}
    broken = {}
    for outcome in outcomes:
        case = outcome.case
        point = f"{case.kernel} on {case.target}, {case.title}"
        if outcome.error:
            broken[point] = f"does not compile: {outcome.error}"
            continue
        points[point] = {"config": config_text(case.config)}
        points |= {f"{point}, {name}": launch_counters(code) for name, code in outcome.launches.items()}
    return Counted(families={FAMILY: points}, broken=broken)


def config_text(config: Config) -> str:
    """Return a configuration as a text of ``name=value`` words."""
    return " ".join(f"{name}={value}" for name, value in config.items())


def launch_counters(code: CodeCounters) -> dict[str, Value]:
    """Return the counters of one launch, without tensor memory and kinds of instructions that it does not use.

    So a kind that is no longer used is missing, which has to be accepted; one that is new fails nothing.
    """
    found: dict[str, Value] = {
        name: getattr(code, name)
        for name in ("warps", "occupancy", "registers", "shared_bytes", "code_bytes", "spill_bytes")
    }
    if code.tensor_columns:
        found["tensor_columns"] = code.tensor_columns
    for name in ("tensor_core", "bulk_copies", "spills"):
        found |= {f"{name} {instruction}": count for instruction, count in getattr(code, name).items()}
    return found

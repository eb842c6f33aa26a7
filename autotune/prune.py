"""Configurations that the compiler refuses for a GPU, or whose code would be slow there; needs no GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..kernels.compiled.survey import Case, Outcome, compile_cases, unable
from ..kernels.gpu.hardware import HARDWARE
from ..kernels.kernel import Config
from ..kernels.problem import Problem


def compiled_faults(
    kernel_name: str, problem: Problem, configs: Sequence[Config], target: str, processes: int = 2
) -> Iterator[tuple[int, str | None]]:
    """The index of every configuration in turn, with None or why it should be dropped, as soon as it is known.

    One is dropped that does not compile, that keeps registers in memory, or of which not even one program fits a
    processor. Compiling takes seconds each, shared by ``processes``.

    Raises:
        RuntimeError: where nothing can be compiled in this process, with the remedy.
    """
    if reason := unable():
        raise RuntimeError(reason)
    work = [Case(kernel=kernel_name, model="", problem=problem, config=config, target=target) for config in configs]
    for index, outcome in enumerate(compile_cases(work, processes)):
        yield index, fault_of(outcome)


def fault_of(outcome: Outcome) -> str | None:
    """None, or why a case that was compiled should be dropped."""
    if outcome.error:
        return f"does not compile: {outcome.error}"
    most = HARDWARE[outcome.case.target].shared_bytes
    for name, figures in outcome.figures.items():
        if figures.shared_bytes > most:
            return f"{name} needs {figures.shared_bytes} bytes of shared memory of {most}"
        if figures.spill_bytes or figures.spills:
            return f"{name} spills {figures.spill_bytes} bytes a thread"
        if figures.occupancy == 0:
            return f"{name} has {figures.registers} registers and {figures.warps} warps: no processor holds it"
    return None

"""Compiling candidates for a GPU before they are measured, which shows faults and leaves the code in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ...kernels.compiler.compilers import Compilers
from ...kernels.compiler.survey import CompileCase, CompileOutcome
from ...kernels.config import Config
from ...kernels.hardware.gpus import HARDWARE, Hardware
from ...kernels.problem import Problem

Faults = Callable[[Problem, Sequence[Config]], Iterator[str | None]]
"""Yields for every configuration in turn, as soon as it is known, None or why it is not worth measuring."""


def none_known(problem: Problem, configs: Sequence[Config]) -> Iterator[str | None]:  # noqa: ARG001  # as all `Faults`
    """Return no fault for any configuration: `Faults` where nothing is compiled ahead."""
    return iter([None] * len(configs))


class Ahead:
    """`Faults` of one kernel, found by compiling it for ``target`` with the limits of ``hardware``.

    A configuration has a fault when it does not compile, when it spills registers, or when not even one program fits a
    processor. All code is in Triton's cache on disk afterwards, under the keys that launches on the device look for.
    """

    def __init__(self, kernel: str, target: str, hardware: Hardware, compilers: Compilers) -> None:
        self._kernel = kernel
        self._target = target
        self._hardware = hardware
        self._compilers = compilers
        self._known: dict[tuple[Problem, frozenset[tuple[str, int | float | str | bool]]], str | None] = {}

    def __call__(self, problem: Problem, configs: Sequence[Config]) -> Iterator[str | None]:
        keys = [(problem, frozenset(config.items())) for config in configs]
        new = {key: config for key, config in zip(keys, configs, strict=True) if key not in self._known}
        outcomes = zip(
            new, self._compilers.compile([self._case(problem, config) for config in new.values()]), strict=True
        )
        for key in keys:
            while key not in self._known:
                compiled, outcome = next(outcomes)
                self._known[compiled] = fault_of(outcome)
            yield self._known[key]

    def _case(self, problem: Problem, config: Config) -> CompileCase:
        return CompileCase(
            kernel=self._kernel, model="", problem=problem, config=config, target=self._target, hardware=self._hardware
        )


def fault_of(outcome: CompileOutcome) -> str | None:
    """Return None, or why a compiled case is not worth measuring."""
    if outcome.error:
        return f"does not compile: {outcome.error}"
    most = (outcome.case.hardware or HARDWARE[outcome.case.target]).shared_bytes
    for name, code in outcome.launches.items():
        if code.shared_bytes > most:
            return f"{name} needs {code.shared_bytes} bytes of shared memory of {most}"
        if code.spill_bytes or code.spills:
            return f"{name} spills {code.spill_bytes} bytes a thread"
        if code.occupancy == 0:
            return f"{name} has {code.registers} registers and {code.warps} warps: no processor holds it"
    return None

"""Compiled layers as tables for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ...reports.numbers import counted
from ...reports.tables.stacked_table import FittedGrid
from .. import screen

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ...kernels.compiler.machine_code import CodeCounters
    from ...kernels.compiler.survey import CompileOutcome
    from ...kernels.config import Config

KIB = 1024
COLUMNS = ("regs", "spills", "KiB", "programs", "instructions")
LEGEND = (
    "regs: registers of a thread. spills: bytes of its stack. KiB: shared memory of a program. programs: as many as a "
    "processor holds × the warps of each. instructions: the tensor cores' in the code, and those that copy to shared "
    "memory past the registers."
)


def plain(outcomes: Sequence[CompileOutcome]) -> list[dict[str, object]]:
    """Return all compiled layers for JSON."""
    return [_layer_json(outcome) for outcome in outcomes]


def show(outcomes: Sequence[CompileOutcome], *, whole: bool) -> None:
    """Print the launches of each layer; of a ``whole`` space its configurations, each by the worst of its launches."""
    console = screen.console()
    groups: dict[tuple[str, str, str], list[CompileOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.case.target, outcome.case.kernel, outcome.case.title), []).append(outcome)
    for heading, group in groups.items():
        for part in _layer(heading, group, whole=whole):
            console.print(part)
        console.print()
    if outcomes:
        console.print(LEGEND, style="dim")
        console.print(_summary(outcomes), style="bold")


def _layer_json(outcome: CompileOutcome) -> dict[str, object]:
    case = outcome.case
    return {
        "target": case.target,
        "kernel": case.kernel,
        "model": case.model,
        "problem": case.problem.key,
        "config": dict(case.config),
        "launches": {name: asdict(code) for name, code in outcome.launches.items()},
        "error": outcome.error,
    }


def _summary(outcomes: Sequence[CompileOutcome]) -> str:
    launches = [code for outcome in outcomes for code in outcome.launches.values()]
    spilt = sum(code.spill_bytes > 0 for code in launches)
    failed = sum(bool(outcome.error) for outcome in outcomes)
    summary = f"{len(launches)} launches of {counted(len(outcomes), 'layer')}: {spilt or 'none'} spill"
    return f"{summary}; {failed} of the layers do not compile" if failed else summary


def _layer(heading: tuple[str, str, str], group: Sequence[CompileOutcome], *, whole: bool) -> Iterator[RenderableType]:
    """Yield the name of a layer, its default configuration, its table, and the errors of the compiler."""
    from rich.text import Text

    default = group[0].case.config
    yield Text(" · ".join(heading), style="bold")
    yield Text(_text(default), style="dim")
    first = "configuration" if whole else "launch"
    rows = [
        ((name, *_cells(code)), "yellow" if code.spill_bytes else "")
        for outcome in group
        for name, code in _rows(outcome, default, whole=whole)
    ]
    yield FittedGrid((first, *COLUMNS), rows, words=(first, COLUMNS[-1]))
    for outcome in group:
        if outcome.error:
            named = f"{_changed(outcome.case.config, default)}: " if whole else ""
            yield Text(f"does not compile: {named}{outcome.error}", style="red")


def _rows(outcome: CompileOutcome, default: Config, *, whole: bool) -> Iterator[tuple[str, CodeCounters]]:
    from ...kernels.compiler.machine_code import worst

    if not whole:
        yield from outcome.launches.items()
    elif outcome.launches:
        yield _changed(outcome.case.config, default), worst(list(outcome.launches.values()))


def _changed(config: Config, default: Config) -> str:
    """Return the part of a configuration that differs from the default one."""
    return _text({name: value for name, value in config.items() if value != default[name]}) or "default"


def _text(config: Config) -> str:
    return " ".join(f"{name}={value}" for name, value in config.items())


def _cells(code: CodeCounters) -> list[str]:
    instructions = {**code.tensor_core, **code.bulk_copies}
    return [
        str(code.registers),
        str(code.spill_bytes),
        f"{code.shared_bytes / KIB:.1f}",
        f"{code.occupancy} × {code.warps}",
        " ".join(f"{count} {name.removeprefix('v_')}" for name, count in instructions.items()),
    ]

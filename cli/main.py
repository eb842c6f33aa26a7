"""The `moebench` command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from ..common.cores import usable_cores
from ..execution.workers.affinity import wait_briefly
from .check import compare, counters, gate, history, kernels
from .endings import EndingGroup, end_as_by_ctrl_c, reporting_bugs
from .measure import advise, calibrate, clock, firstlight, predict, run
from .problem_options import OLD_SPELLINGS
from .show import doctor, export, listing, report, trace
from .tuning import tables, tune

app = typer.Typer(
    cls=EndingGroup,
    name="moebench",
    help="Benchmark and tune Mixture-of-Experts dispatch: checked, with intervals, against the hardware's bound.",
    no_args_is_help=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda word: OLD_SPELLINGS.get(word, word),
    },
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _add(name: str, verb: Callable[..., None]) -> None:
    """Add a verb; the list of verbs shows the first paragraph of its docstring whole."""
    app.command(name, short_help=_summary(verb))(verb)


def _summary(verb: Callable[..., None] | None) -> str:
    summary, _, _ = inspect.cleandoc(verb.__doc__ or "").partition("\n\n")
    return " ".join(summary.split())


_add("doctor", doctor.doctor)
_add("list", listing.show)
_add("run", run.run)
_add("report", report.report)
_add("tune", tune.tune)
_add("compare", compare.compare)
_add("gate", gate.gate)
_add("history", history.history)
_add("counters", counters.counters)
_add("firstlight", firstlight.firstlight)
_add("export", export.export)
_add("predict", predict.predict)
_add("advise", advise.advise)
_add("calibrate", calibrate.calibrate)
_add("clock", clock.clock)
for name, group in (("tables", tables.app), ("kernels", kernels.app), ("trace", trace.app)):
    for verb in group.registered_commands:
        verb.short_help = _summary(verb.callback)
    app.add_typer(group, name=name, short_help=group.info.help)


def _show_version(asked: bool) -> None:  # typer calls it with the value of the option
    if asked:
        typer.echo(f"moebench {version('moebench')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that come before a verb."""


def main() -> None:
    """Entry point.

    Exit codes: 0 done, 1 the answer is bad, 2 it could not be done, 70 a bug of moebench, 130 interrupted, 141 whoever
    read the output has closed it.
    """
    end_as_by_ctrl_c()
    usable_cores()  # before torch is imported: OMP_PROC_BIND in the environment binds this thread to one core then
    wait_briefly()  # whatever is measured in this process or in one that it starts
    with reporting_bugs():
        app()


if __name__ == "__main__":
    main()

"""The `moebench` command."""

from __future__ import annotations

import typer

from .check import compare, counters, gate, history, kernels
from .measure import calibrate, clock, firstlight, predict, run
from .show import doctor, export, listing, report
from .tuning import tables, tune

app = typer.Typer(
    name="moebench",
    help="Benchmark and tune Mixture-of-Experts dispatch: checked, with intervals, against the hardware's bound.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("doctor")(doctor.doctor)
app.command("list")(listing.show)
app.command("run")(run.run)
app.command("report")(report.report)
app.command("tune")(tune.tune)
app.command("compare")(compare.compare)
app.command("gate")(gate.gate)
app.command("history")(history.history)
app.command("counters")(counters.counters)
app.command("firstlight")(firstlight.firstlight)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("calibrate")(calibrate.calibrate)
app.command("clock")(clock.clock)
app.add_typer(tables.app, name="tables")
app.add_typer(kernels.app, name="kernels")


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 the answer is bad, 2 it could not be done."""
    app()


if __name__ == "__main__":
    main()

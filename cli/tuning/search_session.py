"""A tuning run on a terminal: its progress, then its tables, printed and written to where layers look for them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from .. import screen
from ..errors import BAD_ANSWER, COULD_NOT, refuse
from ..screen import complain, say, say_json

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import Console

    from ...autotune.search.candidates import Candidates
    from ...autotune.search.tuner import Tuner, TuningProgress
    from ...autotune.search.tuning_plan import TuningPlan
    from ...autotune.tables.build import Derived
    from ...execution.workers.executor import Executor
    from ...kernels.config import Config
    from ...kernels.problem import Problem


def session(
    plan: TuningPlan,
    candidates: Candidates,
    workers: AbstractContextManager[Executor],
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    """Carry out a plan, write the tables of its records beside them, and show what was found.

    Raises:
        typer.Exit: with 1 when the default or every candidate failed, with 2 when it was interrupted twice.
    """
    from ...autotune.search.problem_search import DefaultFails
    from ...autotune.search.tuner import Tuner
    from ...autotune.tables.build import winners
    from ...results.record.store import Store

    console = screen.console(stderr=as_json)
    failure, stopped = "", False
    bar = screen.bar(console)
    work, sign = bar.add_task("starting workers", total=1.0), screen.SignOfLife(console)

    def show(step: TuningProgress) -> None:
        doing = _under_way(step, plan)
        bar.update(work, completed=step.share_done, description=doing)
        sign.say(doing)

    with bar, candidates.compiling() as faults, workers as executor:
        path = output or _own_file(plan, executor)
        with Store(path) as store:
            tuner = Tuner(plan, executor, store, space_of=candidates.space, predict=candidates.predict, faults=faults)
            try:
                with _stopping(tuner, console):
                    _follow(tuner.search(), show)
                _follow(tuner.compare(winners), show)
                _follow(tuner.hold_out(lambda problem: _looked_up(tuner, candidates, problem)), show)
            except DefaultFails as error:
                failure = f"nothing is tuned, because the default configuration fails: {error}"
            except KeyboardInterrupt:
                stopped = True
    for loss in () if stopped else executor.losses:
        complain(loss)
    if stopped:
        complain(f"stopped; every record is kept, and --output {path} continues with them")
        raise typer.Exit(COULD_NOT)
    failure = failure or _all_failed(tuner)
    _answer(plan, tuner, path, failure, as_json=as_json)
    if failure:
        complain(f"{plan.kernel}: {failure}")
        raise typer.Exit(BAD_ANSWER)


@contextmanager
def _stopping(tuner: Tuner, console: Console) -> Iterator[None]:
    """End the search at the first Ctrl-C, and the whole command at the next one."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        tuner.stop()
        console.print("interrupted: the best so far are compared now; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _own_file(plan: TuningPlan, executor: Executor) -> Path:
    """Return the file for the records of this kernel on this device, in the folder where layers look for tables."""
    from ...autotune.tables.table_files import as_file_name
    from ...kernels.tuned.lookup import FOLDER, folder

    home = folder()
    if home is None:
        refuse(f"there is no home folder to keep tables in: give --output, or set {FOLDER} to a folder")
    return home / f"{as_file_name(f'{plan.kernel}.{executor.environment.device}')}.jsonl"


def _follow(progress: Iterable[TuningProgress], show: Callable[[TuningProgress], None]) -> None:
    for step in progress:
        show(step)


def _under_way(step: TuningProgress, plan: TuningPlan) -> str:
    """Return the time left, and what is under way, the most important first."""
    doing = f"{step.trials} of {plan.trials} trials" if step.stage == "search" else "comparing finalists"
    best = f", best {1 / step.best:.3f}×" if step.best else ""
    load = f", load {step.problem.load}" if plan.loads else ""
    return f"{screen.minutes(step.left_s)} left; T = {step.problem.T}{load}: {doing}{best}"


def _looked_up(tuner: Tuner, candidates: Candidates, problem: Problem) -> Config | None:
    """Return the configuration that the tables of these records have for a batch size between those tuned."""
    from ...autotune.tables.build import derive
    from ...autotune.tables.held_out import look_up_in
    from ...kernels.tuned.lookup import Found

    found = look_up_in(derive(tuner.records).tables, problem, candidates.space(problem).configs)
    return found.config if isinstance(found, Found) else None


def _all_failed(tuner: Tuner) -> str:
    """Return why no candidate passed, "" where one did."""
    failures = tuner.failures()
    if tuner.passed() or not failures:
        return ""
    return "the default is kept, because every candidate failed: " + ", ".join(
        f"{count} {status}" for status, count in failures.items()
    )


def _answer(plan: TuningPlan, tuner: Tuner, path: Path, failure: str, *, as_json: bool) -> None:
    from ...autotune.tables.held_out import held_out
    from ...autotune.tables.table_files import derive_files, write
    from ...kernels.tuned.tuned_table import shape_of
    from .views import answer, failure_lines, held_out_lines, plain, plain_failures

    derived: Derived = derive_files([path])
    written = [write(table, path.parent) for table in derived.tables]
    mine = [table for table in derived.tables if (table.kernel, table.source) == (plan.kernel, plan.source)]
    shape = shape_of(plan.problems[0])
    regrets = held_out(tuner.records, mine)
    if as_json:
        say_json(
            {
                "kernel": plan.kernel,
                "records": str(path),
                "tables": [str(file) for file in written],
                "trials": tuner.spent.trials,
                "own_ms_per_trial": round(1e3 * tuner.spent.own_s, 2),
                "failures": dict(tuner.failures()),
                "failed": list(plain_failures(tuner.failed())),
                "failure": failure,
                "batch_sizes": [row for table in mine for row in plain(table, shape)],
                "held_out": [{"T": one.place.T, "regret": one.regret, "why": one.why} for one in regrets],
            },
        )
        return
    lines = [line for table in mine for line in answer(table, shape)]
    lines += [*held_out_lines(regrets), *derived.left_out, _effort(tuner)]
    lines += [*failure_lines(tuner.failed(), path), f"records: {path}"]
    lines += [f"table:   {file}" for file in written]
    say("\n".join(lines))


def _effort(tuner: Tuner) -> str:
    failures = ", ".join(f"{count} {status}" for status, count in tuner.failures().items())
    return (
        f"{tuner.spent.trials} candidates tried in {tuner.spent.total_s:.0f} s of search"
        + (f", {tuner.spent.compiled_s:.0f} s of them compiling" if tuner.spent.compiled_s >= 1 else "")
        + (f"; failed: {failures}" if failures else "")
        + (f"; the tuner itself took {1e3 * tuner.spent.own_s:.1f} ms of each trial" if tuner.spent.trials else "")
    )

"""`moebench run`: ask the questions, show the answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BAD_ANSWER, COULD_NOT, told
from ..ranks import workplace

if TYPE_CHECKING:
    from rich.console import Console

    from ...execution.trial.task import Task
    from ...results.record import Record
    from ...results.record.prediction import Prediction
    from ...results.record.store import Store
    from ...suites.runner import Runner

MAIN_JOB = ("smoke", "capacity", "experts", "granularity")


class Size(StrEnum):
    """Which form of a suite."""

    small = "small"
    reduced = "reduced"
    full = "full"


class Cache(StrEnum):
    """What a sample finds in the caches."""

    cold = "cold"
    hot = "hot"


class Timed(StrEnum):
    """How calls are timed; see `results.record.CacheState`."""

    cold = "cold"
    hot = "hot"
    eager = "eager"


class Configs(StrEnum):
    """Which configuration of a kernel."""

    tuned = "tuned"
    default = "default"


class Device(StrEnum):
    """What to measure on."""

    cpu = "cpu"
    cuda = "cuda"


def run(
    suites: Annotated[
        list[str] | None,
        typer.Argument(help=f"Suites to run; the main job ({', '.join(MAIN_JOB)}) when none is named."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File of records to write or to continue.", show_default="runs/TIME.jsonl"),
    ] = None,
    kernel: Annotated[
        list[str] | None, typer.Option("--kernel", "-k", help="Only this kernel; may be given again.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Only points of this model's shape.", show_default=False)
    ] = None,
    size: Annotated[
        Size | None, typer.Option(help="The form of the suites.", show_default="small on a CPU, full on a GPU")
    ] = None,
    cache: Annotated[
        Timed,
        typer.Option(
            help="Cold: caches are flushed before each sample. Hot: a CUDA graph goes round large buffers. Eager: "
            "Python makes one call after the other, by the host's clock."
        ),
    ] = Timed.cold,
    configs: Annotated[
        Configs, typer.Option(help="What `moebench tune` found where it was tuned, or each kernel's default.")
    ] = Configs.tuned,
    device: Annotated[
        Device | None, typer.Option(help="What to measure on.", show_default="cuda if there is one")
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(
            help="Predict the scaling suite beyond the ranks there are, for this machine; see `moebench predict`.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Take no more samples than this, though the noise ask for more.")
    ] = None,
    interleave_with: Annotated[
        Path | None,
        typer.Option(
            help="Folder that runs share which measure here at the same time: they take samples in turn.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the points and ratios as JSON.")] = False,
) -> None:
    """Measure suites, checked against the oracle, and show the answers.

    Records are written as they are made: Ctrl-C or a kill loses at most the point under way, and running again with the
    same --output continues. Exit code 1 means that an implementation was wrong, implausible, or did not survive. The
    last line says so where memory was too small for a point.
    """
    with told(), workplace() as place:
        from rich.console import Console

        from ...execution.workers.affinity import PinnedThreads
        from ...execution.workers.worker_group import LOCAL_WORKERS, LocalWorkers
        from ...results.record.prediction import write
        from ...results.record.store import Store
        from ...suites.resume import pending
        from ...suites.runner import Runner
        from ...suites.suite import timed

        device = device or _best_device()
        size = size or (Size.small if device is Device.cpu else Size.full)
        work = timed(_tasks(suites or list(MAIN_JOB), size, kernel or [], model), cache.value, device.value)
        work = [_sampled(task, samples, interleave_with) for task in work]
        if configs is Configs.tuned:
            from ...suites.tuned import as_tuned

            work, notes = as_tuned(work, device.value)
            for note in notes:
                typer.echo(f"moebench: {note}", err=True)
        predictions = _predictions(work, machine) if machine else []
        path = output or Path("runs") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl"
        console = Console(stderr=as_json)
        with Store(path) as store:
            for problem in store.loaded.problems:
                typer.echo(f"moebench: {problem}", err=True)
            pinned = interleave_with and place is LOCAL_WORKERS
            runner = Runner(store, device.value, LocalWorkers(PinnedThreads()) if pinned else place)
            left = pending(work, store.loaded.records, device.value)
            for note in left.notes:
                typer.echo(f"moebench: {note}", err=True)
            made, interrupted = _measure(runner, left.tasks, console)
            records = [*store.loaded.records, *made]
        if predictions:
            write(path.with_suffix(".predictions.jsonl"), predictions)
        _show(records, predictions, path, store, runner, console, as_json=as_json)
        if interrupted:
            typer.echo(f"moebench: interrupted; continue with --output {path}", err=True)
            raise typer.Exit(COULD_NOT)
        if any(record.status.bad for record in records):
            raise typer.Exit(BAD_ANSWER)


def _best_device() -> Device:
    import torch

    return Device.cuda if torch.cuda.is_available() else Device.cpu


def _tasks(suites: Sequence[str], size: Size, kernels: Sequence[str], model_name: str | None) -> list[Task]:
    """The tasks of all suites, with only the named kernels and the named model when there are any."""
    import dataclasses

    from ...common.names import UnknownName, unknown
    from ...kernels.catalog import KERNELS
    from ...kernels.problem.models import model
    from ...suites.suite import tasks

    for name in kernels:
        if name not in KERNELS.names():
            raise unknown("kernel", name, KERNELS.names())
    found = [task for suite in suites for task in tasks(suite, size.value)]
    if kernels:
        found = [
            dataclasses.replace(task, competitors=tuple(who for who in task.competitors if who.kernel in kernels))
            for task in found
        ]
    if model_name is not None:
        shape = model(model_name).name
        found = [task for task in found if task.point.model == shape]
    left = [task for task in found if task.competitors]
    if not left:
        raise UnknownName(f"no point of {', '.join(suites)} has the named model and kernels: name others")
    return left


def _sampled(task: Task, samples: int | None, interleave_with: Path | None) -> Task:
    """The same task with so many samples, taken in turn with others."""
    import dataclasses

    budget = dataclasses.replace(task.budget, samples=samples)
    return dataclasses.replace(task, budget=budget, interleave_with=interleave_with and interleave_with.resolve())


def _measure(runner: Runner, tasks: list[Task], console: Console) -> tuple[list[Record], bool]:
    """Records as far as they came, and whether Ctrl-C ended it; one line a point, and the time left."""
    records: list[Record] = []
    with console.status("starting workers") as status:
        try:
            for progress in runner.run(tasks):
                records += progress.records
                point = progress.task.point
                x = point.x if isinstance(point.x, str) else f"{point.x:g}"
                statuses = Counter(record.status.value for record in progress.records)
                console.print(
                    f"[{progress.done}/{progress.total}] {point.suite}: {point.line}, {point.axis} {x}: "
                    f"{', '.join(f'{count} {status}' for status, count in statuses.items())}; "
                    f"{_clock(progress.left_s)} left",
                    markup=False,
                    highlight=False,
                )
                status.update("measuring the next point")
        except KeyboardInterrupt:
            return records, True
    return records, False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def _predictions(tasks: list[Task], name: str) -> list[Prediction]:
    """What a described machine should do on more ranks."""
    from ...suites.prediction.machine import machine
    from ...suites.prediction.predict import beyond

    return list(beyond(tasks, machine(name)))


def _show(
    records: list[Record],
    predictions: list[Prediction],
    path: Path,
    store: Store,
    runner: Runner,
    console: Console,
    *,
    as_json: bool,
) -> None:
    """Tables and pages, or JSON; nothing when there is nothing."""
    if not records:
        return
    from ...reports.data import points
    from ...reports.page import write_html, write_markdown
    from ...reports.shortage import shortage
    from ...reports.terminal import terminal

    html = write_html(records, store.loaded.problems, path.with_suffix(".html"), predictions)
    write_markdown(records, store.loaded.problems, path.with_suffix(".md"), predictions)
    spent, short = runner.spent, shortage(records)
    if as_json:
        answer = {
            "records": str(path),
            "report": str(html),
            "startup_s": round(spent.startup_s, 3),
            "trials_s": round(spent.trials_s, 3),
            "harness_share": round(spent.harness, 4),
            "out_of_memory": short and short.plain(),
            "points": points(records),
        }
        typer.echo(json.dumps(answer, indent=2))
        return
    for table in terminal(records):
        console.print(table)
    if spent.timed_s:
        console.print(
            f"{spent.startup_s + spent.trials_s:.0f} s, of these {spent.startup_s:.0f} s starting workers; of the rest "
            f"{100 * spent.harness:.0f} % was the harness, the others were timed calls",
            highlight=False,
        )
    console.print(f"records: {path}\nreport:  {html}", highlight=False, soft_wrap=True)
    if short:
        console.print(short.sentence, highlight=False, soft_wrap=True)

"""`moebench run`: measure suites and show the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .. import screen
from ..errors import BAD_ANSWER, COULD_NOT, refuse, user_errors
from ..executors import AddressOption, SlotsOption, WhereOption, executors_of_run
from ..problem_options import SEVERAL, ProblemWords, problem_options, separated
from ..ranks import launched_workers
from ..screen import complain, say, say_json

if TYPE_CHECKING:
    from rich.console import Console

    from ...execution.trial.task import Observation, Task
    from ...results.record import Record
    from ...results.record.prediction import Prediction
    from ...results.record.store import Store
    from ...suites.runner import Runner, SuiteProgress

MAIN_JOB = ("smoke", "capacity", "experts", "granularity")


Device = Literal["cpu", "cuda"]


@problem_options(many=("model", *SEVERAL), otherwise="the suite's")
def run(
    words: ProblemWords,
    suites: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Suites to run, by name or as TOML files; the main job ({', '.join(MAIN_JOB)}) when none is named."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File of records to write or continue.",
            show_default="runs/TIME.jsonl",
        ),
    ] = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            "--kernel",
            "-k",
            metavar="NAME,…",
            callback=separated,
            help="Measure this kernel in place of the suite's, beside the baseline; may be given again.",
        ),
    ] = None,
    size: Annotated[
        Literal["small", "reduced", "full"] | None,
        typer.Option(help="The form of the suites.", show_default="small on a CPU, full on a GPU"),
    ] = None,
    cache: Annotated[
        Literal["cold", "hot", "eager"],
        typer.Option(
            help="Cold: caches are flushed before each sample. Hot: a CUDA graph goes round large buffers. Eager: "
            "Python makes one call after the other, by the host's clock."
        ),
    ] = "cold",
    configs: Annotated[
        Literal["tuned", "default"],
        typer.Option(help="Configurations that `moebench tune` found, or the default of each kernel."),
    ] = "tuned",
    device: Annotated[
        Device | None, typer.Option(help="Device to measure on.", show_default="cuda if there is one")
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(
            help="Predict the scaling suite beyond the ranks there are, for this machine; see `moebench predict`.",
            show_default=False,
        ),
    ] = None,
    executor: WhereOption = "local",
    address: AddressOption = None,
    slots: SlotsOption = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Take no more samples than this, even if the noise asks for more.")
    ] = None,
    stages: Annotated[
        bool,
        typer.Option(
            "--stages",
            help="Also time what calls do, after the samples: route, dispatch, both products, combine, communicate.",
        ),
    ] = False,
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
    """Measure suites, check every kernel against the oracle, and show the answers.

    A layer that is named, and whatever else is said about the problem, takes the place of the suites' own; each suite
    still sweeps its axis. Where only models are named and the suites have points of them, these are what is measured.

    Records are written as they are made: Ctrl-C or a kill loses at most the point under way, and running again with the
    same --output continues. What has changed since, a kernel or its tuned configuration, is measured again. Exit code 1
    means that an implementation was wrong, implausible, crashed or too slow, or that the machine was not quiet enough
    for a number. The last line names the points that did not fit into memory.
    """
    with user_errors(), launched_workers() as launched:
        from ...results.record.prediction import write
        from ...results.record.store import Store
        from ...suites.plan import plan
        from ...suites.resume import pending
        from ...suites.runner import Runner

        device = device or best_device()
        open_executor = executors_of_run(
            device, executor, address, slots, launched=launched, interleaved=interleave_with is not None
        )
        asked, names = words.asked(), suites or MAIN_JOB
        asks: tuple[Observation, ...] = ("stages",) if stages else ()
        _say([f"{layer.name}: {layer.note}" for layer in asked.layers if layer.note and not asked.models])
        planned = plan(
            names,
            size=size or ("small" if device == "cpu" else "full"),
            device_type=device,
            kernels=kernel or (),
            asked=asked,
            cache=cache,
            configs=configs,
            samples=samples,
            asks=asks,
            interleave_with=interleave_with,
        )
        _say(planned.notes)
        predictions = _predictions(planned.tasks, names, machine) if machine else []
        path = output or Path("runs") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl"
        _refuse_pages_in_place_of_records(path)
        console = screen.console(stderr=as_json)
        with Store(path) as store:
            left = pending(planned.tasks, store.loaded.records, device)
            _say([*store.loaded.problems, *left.notes])
            runner = Runner(store, open_executor)
            made, interrupted = _measure(runner, left.tasks, console)
            records = [*store.loaded.records, *made]
        _say(runner.losses)
        if predictions:
            write(path.with_suffix(".predictions.jsonl"), predictions)
        _show(records, predictions, path, store, runner, console, as_json=as_json)
        if interrupted:
            complain(f"interrupted; continue with --output {path}")
            raise typer.Exit(COULD_NOT)
        if any(record.status.bad for record in records):
            raise typer.Exit(BAD_ANSWER)


def best_device() -> Device:
    """Return cuda where torch sees a device, else cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _refuse_pages_in_place_of_records(path: Path) -> None:
    """Refuse a file of records whose pages would be written over it, or over other records."""
    from ...results.record.file_content import FileContent, refuse_to_replace

    for suffix in (".html", ".md"):
        if path.suffix == suffix:
            refuse(f"--output {path} is for records, its page has that name: give {path.with_suffix('.jsonl')}")
        refuse_to_replace(path.with_suffix(suffix), FileContent.other)


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        complain(note)


def _measure(runner: Runner, tasks: list[Task], console: Console) -> tuple[list[Record], bool]:
    """Measure the tasks, print a line for each, and return the records and whether the run was interrupted."""
    records: list[Record] = []
    with screen.bar(console) as bar:
        work = bar.add_task("starting workers", total=1.0)
        try:
            for progress in runner.run(tasks):
                records += progress.records
                statuses = Counter(record.status.value for record in progress.records)
                console.print(
                    f"[{progress.done}/{progress.total}] {progress.task.point.suite}: {_place(progress.task)}: "
                    f"{', '.join(f'{count} {status}' for status, count in statuses.items())}; "
                    f"{screen.minutes(progress.left_s)} left"
                )
                bar.update(work, completed=progress.share_done, description=_under_way(progress))
        except KeyboardInterrupt:
            return records, True
    return records, False


def _under_way(progress: SuiteProgress) -> str:
    left = f"{screen.minutes(progress.left_s)} left"
    if (task := progress.upcoming) is None:
        return left
    return f"{left}; {task.point.suite}: {_place(task)}, {len(task.competitors)} competitors"


def _place(task: Task) -> str:
    point = task.point
    return f"{point.line}, {point.axis} {point.x if isinstance(point.x, str) else f'{point.x:g}'}"


def _predictions(tasks: list[Task], suites: Sequence[str], name: str) -> list[Prediction]:
    """Return the predictions for a described machine with more ranks than were measured."""
    from ...suites.prediction.machine import machine
    from ...suites.prediction.predict import beyond
    from ...suites.suite_file import suite_named

    return list(beyond(tasks, dict(map(suite_named, suites)), machine(name)))


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
    """Write the pages, and print tables or JSON; do nothing without records."""
    if not records:
        return
    from ...reports.answers.shortage import shortage
    from ...reports.points import points
    from ...reports.report import Report
    from ...reports.terminal import terminal
    from ...suites.repetition import reproduction

    report = Report(records, store.loaded.problems, predictions, reproduction=reproduction)
    html = report.write(path.with_suffix(".html"), "html")
    report.write(path.with_suffix(".md"), "markdown")
    spent, short = runner.spent, shortage(records)
    if as_json:
        answer = {
            "records": str(path),
            "report": str(html),
            "startup_s": round(spent.startup_s, 3),
            "trials_s": round(spent.trials_s, 3),
            "harness_share": round(spent.harness, 4),
            "out_of_memory": short and short.plain(),
            "points": points(report.sections),
        }
        say_json(answer)
        return
    for table in terminal(report.sections):
        console.print(table)
    if spent.timed_s:
        say(
            f"{spent.startup_s + spent.trials_s:.0f} s, of these {spent.startup_s:.0f} s starting workers; of the rest "
            f"{100 * spent.harness:.0f} % was the harness, the others were timed calls"
        )
    say(f"records: {path}\nreport:  {html}")
    if short:
        say(short.sentence)

"""What `moebench predict` prints: a row for each number of ranks and dispatcher, and the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ...reports.numbers import GROUP, MISSING, exact, number, span

if TYPE_CHECKING:
    from ...results.record.prediction import Prediction
    from ...suites.prediction.predict import PredictionRequest

MIB, GIB = 2**20, 2**30
TIE = 0.005  # a smaller difference than any model of time can tell
NUMERIC = {
    "ranks": True,
    "dispatcher": False,
    "time\n(ms)": True,
    "inside\n(MiB)": True,
    "across\n(MiB)": True,
    "memory\n(GiB)": True,
    "beside\nfastest": True,
    "bound by": False,
}
"""The columns, and whether they hold numbers."""


def show(question: PredictionRequest, predictions: Sequence[Prediction]) -> None:
    """What is asked, the table, and the answer."""
    console = Console(highlight=False, markup=False)
    console.print(*_heading(question, predictions), "", sep="\n")
    console.print(_table(predictions))
    console.print("", *_answer(predictions), sep="\n")


def _heading(question: PredictionRequest, predictions: Sequence[Prediction]) -> Iterator[str]:
    problem, machine = question.problem, question.machine
    call = "a forward" if problem.mode == "forward" else "a training step"
    capacity = "dropless" if problem.capacity_factor is None else f"capacity factor {problem.capacity_factor:g}"
    chunks = f", in {question.chunks} chunks" if question.chunks > 1 else ""
    yield f"{question.series}: {machine.summary}"
    yield (
        f"{call} of one layer, D={problem.D} F={problem.F} E={problem.E} K={problem.K}, {exact(problem.T)} tokens a"
        f" rank, {problem.dtype}, rows travel in {predictions[0].wire}, load {problem.load}, {capacity}{chunks}"
    )
    yield "predicted, not measured; bytes are what a rank sends on average, memory is what the fullest rank needs"


def _table(predictions: Sequence[Prediction]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for numeric in NUMERIC.values():
        table.add_column(justify="right" if numeric else "left", vertical="bottom", no_wrap=True)
    table.add_row(*NUMERIC, style="dim")
    for ranks, group in _by_ranks(predictions):
        best = fastest(group)
        table.add_row()
        for place, one in enumerate(group):
            style = "bold green" if one is best else ""
            table.add_row("" if place else exact(ranks), one.dispatcher, *_figures(one, best), style=style)
    return table


def _figures(one: Prediction, best: Prediction | None) -> Iterator[str]:
    found = one.expected
    if found is None:
        yield from [MISSING] * (len(NUMERIC) - 2)
        return
    yield number(1e3 * found.seconds)
    yield number(found.sent.node / MIB)
    yield number(found.sent.across / MIB)
    yield number(found.memory.total / GIB)
    if one is best:
        yield "fastest"
    elif best is None or best.expected is None or not found.memory.fits:
        yield "too large"
    else:
        yield f"{100 * (found.seconds / best.expected.seconds - 1):+,.1f} %".replace(",", GROUP)
    yield found.bound


def fastest(predictions: Iterable[Prediction]) -> Prediction | None:
    """Of those that fit into memory the one that takes least time; of several as good as equal the first."""
    times = [(one, one.expected.seconds) for one in predictions if one.expected and one.expected.memory.fits]
    least = min((seconds for _, seconds in times), default=0.0)
    return next((one for one, seconds in times if seconds <= least * (1 + TIE)), None)


def _by_ranks(predictions: Iterable[Prediction]) -> list[tuple[int, list[Prediction]]]:
    return [(ranks, list(group)) for ranks, group in groupby(predictions, key=lambda one: one.ranks)]


def _answer(predictions: Sequence[Prediction]) -> Iterator[str]:
    """Who is fastest where, and what the table leaves out."""
    winners = [(best.dispatcher if best else "none fits", ranks) for ranks, best in _winners(predictions)]
    yield "fastest: " + ", ".join(f"{name} on {where}" for name, where in _stretches(winners))
    groups = [(str(one.group), one.ranks) for one in predictions if one.group < one.ranks]
    for group, where in _stretches(groups):
        yield f"on {where}, groups of {group} ranks hold all experts each"
    for refusal, where in _stretches(
        [(f"{one.dispatcher} {one.reason}", one.ranks) for one in predictions if one.reason]
    ):
        yield f"on {where}, {refusal}"


def _winners(predictions: Sequence[Prediction]) -> Iterator[tuple[int, Prediction | None]]:
    for ranks, group in _by_ranks(predictions):
        yield ranks, fastest(group)


def _stretches(said: Sequence[tuple[str, int]]) -> Iterator[tuple[str, str]]:
    """Of what is said of numbers of ranks: each thing, and in words on how many ranks it holds in a row."""
    for thing, group in groupby(said, key=lambda pair: pair[0]):
        ranks = [number for _, number in group]
        yield thing, f"{span(ranks, write=exact)} ranks"

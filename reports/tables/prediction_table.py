"""Predictions on a terminal: a row for each number of ranks and dispatcher, and which is fastest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from rich.console import RenderableType

from ...results.record.prediction import Prediction
from ..numbers import GROUP, MISSING, exact, number, span
from .stacked_table import FittedGrid

MIB, GIB = 2**20, 2**30
TIE: Final = 0.005  # a smaller difference than any model of time can tell
HEADINGS: Final = (
    "ranks",
    "dispatcher",
    "time\n(ms)",
    "inside\n(MiB)",
    "across\n(MiB)",
    "memory\n(GiB)",
    "beside\nfastest",
    "bound by",
)
WORDS: Final = ("dispatcher", "bound by")


def prediction_table(predictions: Sequence[Prediction]) -> Iterator[RenderableType]:
    """Yield what ``rich`` prints for the predictions of one layer on one machine: the layer, the table, the answer."""
    yield from _layer(predictions[0])
    yield ""
    yield FittedGrid(HEADINGS, list(_rows(predictions)), words=WORDS)
    yield ""
    yield from _answer(predictions)


def _layer(one: Prediction) -> Iterator[str]:
    problem = one.problem
    call = "a forward" if problem["mode"] == "forward" else "a training step"
    factor = problem["capacity_factor"]
    capacity = f"capacity factor {factor:g}" if isinstance(factor, int | float) else "dropless"
    chunks = f", in {one.chunks} chunks" if one.chunks > 1 else ""
    tokens = exact(int(str(problem["T"])) // int(str(problem["ranks"])))
    sizes = " ".join(f"{letter}={problem[letter]}" for letter in "DFEK")
    yield (
        f"{call} of one layer, {sizes}, {tokens} tokens a rank, {problem['dtype']}, rows travel in "
        f"{one.wire}, router {problem['router']}, load {problem['load']}, {capacity}{chunks}"
    )
    yield "predicted, not measured; bytes are what a rank sends on average, memory is what the fullest rank needs"


def _rows(predictions: Sequence[Prediction]) -> Iterator[tuple[list[str], str]]:
    for ranks, group in _by_ranks(predictions):
        best = fastest(group)
        yield [], ""
        for place, one in enumerate(group):
            cells = ["" if place else exact(ranks), one.dispatcher, *_figures(one, best)]
            yield cells, "bold green" if one is best else ""


def _figures(one: Prediction, best: Prediction | None) -> Iterator[str]:
    found = one.expected
    if found is None:
        yield from [MISSING] * (len(HEADINGS) - 2)
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
        yield f"{100 * (found.seconds / best.expected.seconds - 1):+z,.1f} %".replace(",", GROUP)
    yield found.bound


def fastest(predictions: Iterable[Prediction]) -> Prediction | None:
    """Return the prediction of least time among those that fit into memory; of several as good as equal the first."""
    times = [(one, one.expected.seconds) for one in predictions if one.expected and one.expected.memory.fits]
    least = min((seconds for _, seconds in times), default=0.0)
    return next((one for one, seconds in times if seconds <= least * (1 + TIE)), None)


def _by_ranks(predictions: Iterable[Prediction]) -> list[tuple[int, list[Prediction]]]:
    return [(ranks, list(group)) for ranks, group in groupby(predictions, key=lambda one: one.ranks)]


def _answer(predictions: Sequence[Prediction]) -> Iterator[str]:
    """Yield which dispatcher is fastest where, and what the table leaves out."""
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
    """Yield each statement about numbers of ranks once for a stretch of ranks, with the stretch."""
    for thing, group in groupby(said, key=lambda pair: pair[0]):
        ranks = [number for _, number in group]
        yield thing, f"{span(ranks, write=exact)} ranks"

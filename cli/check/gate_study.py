"""`moebench gate-study`: how often the gate's rule is right, in noise of known shapes and in recorded noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...reports.text_table import markdown
from ..errors import refuse, told

if TYPE_CHECKING:
    from ...results.regression.gate_study import Score

NOISE = "noise between processes"


def gate_study(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files of records of equal processes, measured one after the other, each a noise of its own.",
            show_default="none",
        ),
    ] = None,
    comparisons: Annotated[int, typer.Option(min=1, help="Comparisons of 20 points for every figure.")] = 1000,
) -> None:
    """Judge comparisons whose answer is known by several rules, the gate's among them. Seeded.

    `moebench gate --self` makes records of the noise of this machine.
    """
    from ...results.record.store import load
    from ...results.regression.gate_study import RULES, study
    from ...results.regression.noise import SHAPES, TooFew, recorded, spreads

    noises = dict(SHAPES)
    for path in files or []:
        with told():
            records = load(path).records
        try:
            noises[path.stem] = recorded(records)
        except TooFew as error:
            refuse(f"{path}: {error}")
        processes, pairs = ([_percent(one) for one in sorted(found)] for found in spreads(records))
        typer.echo(
            f"{path}: {len(processes)} points, whose processes' medians spread by {processes[0]} to {processes[-1]}, "
            f"and the ratios of pairs by {pairs[0]} to {pairs[-1]}\n"
        )
    scores = {name: study(noise, RULES, comparisons) for name, noise in noises.items()}
    shares: dict[str, Callable[[Score], float]] = {
        "False alarms per comparison of 20 equal points": lambda score: score.false_alarms,
        "A slowdown of 3 % found": lambda score: score.found[0.03],
        "A slowdown of 5 % found": lambda score: score.found[0.05],
    }
    for title, share in shares.items():
        rows = [[name, *(_percent(share(score)) for score in of_rules.values())] for name, of_rules in scores.items()]
        typer.echo(f"{title}:\n\n{markdown([NOISE, *RULES], rows, words=[NOISE])}\n")
    typer.echo(f"Of the gate:\n\n{_of_the_gate({name: of_rules['gate'] for name, of_rules in scores.items()})}")


def _of_the_gate(scores: Mapping[str, Score]) -> str:
    """Where it says that a point is unclear, and how many processes it takes."""
    titles = [NOISE, *(f"{what}, {how}" for what in ("unclear", "processes a side") for how in ("equal", "3 %", "5 %"))]
    rows = [
        [name, *(_percent(share) for share in score.unclear.values()), *(f"{n:.0f}" for n in score.processes.values())]
        for name, score in scores.items()
    ]
    return markdown(titles, rows, words=[NOISE])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

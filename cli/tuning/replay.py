"""`moebench tune --replay`: strategies compared on recorded sweeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ...reports.text_table import markdown
from ..errors import refuse, told

if TYPE_CHECKING:
    from ...autotune.search.replay import Study, Sweep

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A sweep, where the static model ranks its best (0.03: in its top 3 %), and each strategy's study."""

    sweep: Sweep
    pruning: float | None
    studies: tuple[Study, ...]


def show(files: Sequence[Path], strategy: str, *, as_json: bool) -> None:
    """The regret of a strategy, or of ``all``, on each sweep of the files, and how the static model ranks its best."""
    with told():
        from ...autotune.search.replay import sweeps
        from ...autotune.search.strategy import STRATEGIES
        from ...results.record.store import load_all

        loaded = load_all(files)
        for problem in loaded.problems:
            typer.echo(f"moebench: {problem}", err=True)
        found = sweeps(loaded.records)
        if not found:
            refuse(f"{', '.join(map(str, files))}: no sweep in it; `moebench tune --strategy exhaustive` records one")
        names = STRATEGIES.names() if strategy == ALL else [strategy]
        replayed = [_replayed(sweep, names) for sweep in found]
    if as_json:
        typer.echo(json.dumps([_plain(one) for one in replayed], indent=2))
    else:
        _print(replayed)


def _replayed(sweep: Sweep, names: Sequence[str]) -> Replayed:
    from ...autotune.search.candidates import predictions_of
    from ...autotune.search.replay import Study, pruning

    predicted = predictions_of(sweep)
    return Replayed(
        sweep=sweep,
        pruning=None if predicted is None else pruning(sweep, predicted),
        studies=tuple(Study.of(name, sweep, predicted=predicted) for name in names),
    )


def _print(replayed: Sequence[Replayed]) -> None:
    from ...autotune.search.replay import SEEDS, SHARES

    for one in replayed:
        sweep = one.sweep
        best = 1 / sweep.score(sweep.best)
        ranked = "" if one.pruning is None else f", in the static model's top {100 * one.pruning:.1f} %"
        typer.echo(f"{sweep.space.kernel} {sweep.key}")
        typer.echo(f"{len(sweep.space)} configurations; the best is {best:.3f} times as fast as the default{ranked}\n")
        shares = [(share, one.studies[0].after(share).trials) for share in SHARES]
        titles = ["strategy", *(f"{100 * share:.0f} %: {trials} trials" for share, trials in shares)]
        rows = []
        for study in one.studies:
            regrets = [study.after(share) for share in SHARES]
            rows.append([study.strategy, *(f"{100 * r.median:.1f} % (≤ {100 * r.worst:.1f} %)" for r in regrets)])
        typer.echo(markdown(titles, rows, words=["strategy"]) + "\n")
    typer.echo(f"regret of the best so far against the best of all: median (and worst) of {SEEDS} seeds")


def _plain(one: Replayed) -> dict[str, object]:
    from ...autotune.search.replay import SHARES

    return {
        "kernel": one.sweep.space.kernel,
        "key": one.sweep.key,
        "configurations": len(one.sweep.space),
        "best": dict(one.sweep.space.configs[one.sweep.best]),
        "best_score": one.sweep.score(one.sweep.best),
        "pruning": one.pruning,
        "regret": {
            study.strategy: {f"{share:g}": asdict(study.after(share)) for share in SHARES} for study in one.studies
        },
    }

"""`moebench trace`: routes of a real model recorded or imported, and their load over time shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .. import screen
from ..errors import user_errors
from ..measure.record_trace import record
from .import_workloads import import_workloads

if TYPE_CHECKING:
    from ...kernels.problem.traces.trace_format import LayerRoutes, TraceDescription

app = typer.Typer(
    no_args_is_help=True, help="Traces: record the routes of a real model, import those of a dataset, show their load."
)
app.command("record")(record)
app.command("import")(import_workloads)

JSON_PARTS: Final = 50
LEAST_PARTS: Final = 8
PIPED: Final = 100  # characters of a line where no terminal says how many fit


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="Trace that `moebench trace record` wrote.", show_default=False)],
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="L", help="Layer, a number or a name.", show_default="all, or the only one"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show the load of every recorded layer, and how it changes from the first token to the last.

    Of several layers it draws how far the fullest expert is above the mean. Of one it draws every expert, the fullest
    first.
    """
    with user_errors():
        from ...kernels.problem.traces.trace_reader import content_of, describe, read_layer

        content = content_of(file)
        about = describe(content, file)
        names = [layer] if layer else [about.word(place) for place in range(len(about.layers))]
        found = [read_layer(content, file, name) for name in names]
    if as_json:
        screen.say_json(_as_json(about, found))
        return
    labels = [one.layer.number or one.layer.name or "layer" for one in found]
    if len(set(labels)) < len(labels):
        labels = [one.layer.name for one in found]
    width = screen.width() or PIPED
    _say_origin(file, about)
    _say_statistics(labels, found)
    screen.say("")
    if len(found) == 1:
        _draw_experts(found[0], width)
    else:
        _draw_layers(labels, found, width)


def _say_origin(file: Path, about: TraceDescription) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    facts = {"trace": str(file), "model": about.model, "text": about.text, "recorded with": versions}
    screen.say_pairs((name, fact) for name, fact in facts.items() if fact)
    screen.say("")


def _statistics(routes: LayerRoutes) -> dict[str, float]:
    import torch

    from ...kernels.problem.balance.load_over_time import load_over_time
    from ...kernels.problem.balance.routing_statistics import gini, max_over_mean

    load = load_over_time(routes, 1)
    counts_E = torch.from_numpy(load.counts_E)
    return {
        "experts": len(counts_E),
        "chosen": load.chosen,
        "tokens": load.tokens,
        "max_over_mean": max_over_mean(counts_E),
        "gini": gini(counts_E),
        "dead": load.dead,
        "absent": load.absent,
    }


def _say_statistics(labels: list[str], layers: list[LayerRoutes]) -> None:
    headings = ("layer", "experts", "K", "tokens", "max/mean", "Gini", "dead", "absent", "gates")
    rows = []
    for label, routes in zip(labels, layers, strict=True):
        found = _statistics(routes)
        rows.append(
            (
                label,
                str(found["experts"]),
                str(found["chosen"]),
                f"{found['tokens']:,}",
                f"{found['max_over_mean']:.2f}",
                f"{found['gini']:.2f}",
                str(found["dead"]),
                f"{found['absent']:,}",
                "no" if routes.gates_TK is None else "yes",
            )
        )
    screen.say_table(headings, rows, words=("layer",))


def _draw_layers(labels: list[str], layers: list[LayerRoutes], width: int) -> None:
    from ...kernels.problem.balance.load_over_time import load_over_time
    from .load_map import curves

    parts = max(LEAST_PARTS, width - 2 - max(map(len, labels)))
    fullest = {
        label: load_over_time(routes, parts).relative_PE().max(1) for label, routes in zip(labels, layers, strict=True)
    }
    highest = max(float(line.max()) for line in fullest.values())
    screen.say_drawing(curves(fullest, highest))
    screen.say(f"rows of the fullest expert over the mean, first token to last: ▁ is 1, █ is {highest:.1f}")


def _draw_experts(routes: LayerRoutes, width: int) -> None:
    import numpy as np

    from ...kernels.problem.balance.load_over_time import load_over_time
    from .load_map import LEGEND, groups, heat_map, label

    lines = groups(np.argsort(-load_over_time(routes, 1).counts_E, kind="stable"))
    parts = max(LEAST_PARTS, width - 2 - max(len(label(experts)) for experts in lines))
    screen.say_drawing(heat_map(load_over_time(routes, parts).relative_PE(), lines))
    screen.say(f"experts from the fullest to the emptiest, first token to last; {LEGEND}")


def _as_json(about: TraceDescription, layers: list[LayerRoutes]) -> dict[str, Any]:
    from ...kernels.problem.balance.load_over_time import load_over_time

    def layer(routes: LayerRoutes) -> dict[str, Any]:
        load = load_over_time(routes, JSON_PARTS)
        return {
            "name": routes.layer.name,
            **_statistics(routes),
            "gates": routes.gates_TK is not None,
            "steps": list(routes.layer.steps),
            "rows": load.counts_E.tolist(),
            "rows_over_time": load.counts_PE.tolist(),
        }

    return {
        "model": about.model,
        "text": about.text,
        "versions": dict(about.versions),
        "layers": [layer(routes) for routes in layers],
    }

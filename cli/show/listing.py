"""`moebench list`: what there is to name."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """What can be listed."""

    kernels = "kernels"
    suites = "suites"
    models = "models"
    routers = "routers"
    strategies = "strategies"
    machines = "machines"


def show(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List kernels, suites, models, routers, strategies of the tuner or described machines, each with what it is."""
    entries = {
        Kind.kernels: _kernels,
        Kind.suites: _suites,
        Kind.models: _models,
        Kind.routers: _routers,
        Kind.strategies: _strategies,
        Kind.machines: _machines,
    }[kind]()
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
        return
    width = max(map(len, entries))
    for name, summary in entries.items():
        typer.echo(f"{name:<{width}}  {summary}")


Entries = dict[str, str]


def _kernels() -> Entries:
    from ...kernels.catalog import KERNELS

    return {name: KERNELS.summary(name) for name in KERNELS.names()}


def _suites() -> Entries:
    from ...suites.suite import SUITES

    return {name: SUITES.load(name).question for name in SUITES.names()}


def _models() -> Entries:
    from ...kernels.problem.models import MODELS

    return {
        model.name: f"D={model.D} F={model.F} E={model.E} K={model.K} {model.router}, "
        f"{model.layers} MoE layers ({model.source})"
        for model in MODELS
    }


def _routers() -> Entries:
    from ...kernels.problem.router import ROUTERS

    forms = {name: ROUTERS.load(name).form() for name in ROUTERS.names()}
    return {name: ROUTERS.summary(name) + (f" Form: {form}" if form != name else "") for name, form in forms.items()}


def _strategies() -> Entries:
    from ...autotune.search.strategy import STRATEGIES

    return {name: STRATEGIES.summary(name) for name in STRATEGIES.names()}


def _machines() -> Entries:
    from ...suites.prediction.machine import machine, names

    return {name: machine(name).summary for name in names()}

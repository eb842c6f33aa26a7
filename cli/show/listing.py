"""`moebench list`: the names that other verbs take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..screen import say_json, say_pairs

if TYPE_CHECKING:
    from ...common.plugins import Catalog
    from ...kernels.problem.parametrised import Parametrised

Kind = Literal["kernels", "suites", "models", "routers", "blocks", "strategies", "machines", "formats"]
Entries = dict[str, str]


def show(
    kind: Annotated[Kind, typer.Argument(help="Kind of things to list.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List kernels, suites, models, routers, blocks, the tuner's strategies, described machines or formats of a report.

    Suites of one's own are those of the files *.suite.toml in the working folder.
    """
    if as_json:
        say_json((DETAILS.get(kind) or LISTED[kind])())
        return
    say_pairs(LISTED[kind]().items())


def _summaries(catalog: Catalog[object]) -> Entries:
    return {name: catalog.summary(name) for name in catalog.names()}


def _kernels() -> Entries:
    from ...kernels.catalog import KERNELS

    return _summaries(KERNELS)


def _suites() -> Entries:
    from pathlib import Path

    from ...suites.suite import SUITES
    from ...suites.suite_file import PATTERN, SuiteFileError, suite_named

    found = {name: SUITES.load(name).question for name in SUITES.names()}
    for path in map(str, sorted(Path().glob(PATTERN))):
        try:
            found[path] = suite_named(path)[1].question
        except SuiteFileError as error:
            found[path] = f"no suite: {error}"
    return found


def _models() -> Entries:
    from ...kernels.problem.models import MODELS

    return {
        model.name: f"D={model.D} F={model.F} E={model.E} K={model.K} {model.activation}"
        f"{' gated' if model.gated else ''}, {model.layers} layers{f', block {model.block}' if model.block else ''}"
        for model in MODELS
    }


def _model_fields() -> dict[str, dict[str, object]]:
    """Return every field of every model, its source and its note among them."""
    from dataclasses import asdict

    from ...kernels.problem.models import MODELS

    return {model.name: asdict(model) for model in MODELS}


def _routers() -> Entries:
    from ...kernels.problem.router import ROUTERS

    return _with_forms(ROUTERS)


def _blocks() -> Entries:
    from ...kernels.problem.block import BLOCKS

    return _with_forms(BLOCKS)


def _with_forms(catalog: Catalog[type[Parametrised]]) -> Entries:
    """Return the summary of each, and how its text looks where it has parameters."""
    forms = {name: catalog.load(name).form() for name in catalog.names()}
    return {name: catalog.summary(name) + (f" Form: {form}" if form != name else "") for name, form in forms.items()}


def _strategies() -> Entries:
    from ...autotune.search.strategy import STRATEGIES

    return _summaries(STRATEGIES)


def _machines() -> Entries:
    from ...suites.prediction.machine import machine, names

    return {name: machine(name).summary for name in names()}


def _formats() -> Entries:
    from ...integrations import flashinfer_trace
    from ...reports.report import FORMATS
    from .export import DATASET

    return {**_summaries(FORMATS), DATASET: flashinfer_trace.__doc__ or ""}


LISTED: dict[Kind, Callable[[], Entries]] = {
    "kernels": _kernels,
    "suites": _suites,
    "models": _models,
    "routers": _routers,
    "blocks": _blocks,
    "strategies": _strategies,
    "machines": _machines,
    "formats": _formats,
}
DETAILS: dict[Kind, Callable[[], object]] = {"models": _model_fields}  # kinds of which JSON tells more

"""`moebench advise`: which dispatch to use for a mix of traffic, what it takes and costs, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import screen
from ..errors import BAD_ANSWER, refuse, user_errors
from ..price import Price
from ..problem_options import ONE_FORWARD, ProblemWords, problem_options
from ..screen import complain

if TYPE_CHECKING:
    from ...kernels.problem.models import Model
    from ...results.record import Record
    from ...suites.layer import Layer


@problem_options(
    without=("tokens", "mode", "ranks", "block"),
    dtype="bfloat16",
    capacity=ONE_FORWARD["capacity"],
    load=ONE_FORWARD["load"],
)
def advise(
    words: ProblemWords,
    traffic: Annotated[
        str,
        typer.Option(
            metavar="PHASE:T=SHARE,…",
            help="Phases (decode, prefill, train), the tokens of a call, and the share of all tokens in each, such as "
            "decode:64=0.9,prefill:8192=0.1.",
            show_default=False,
        ),
    ],
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Device: cpu, cuda, one of the records, or a GPU such as H100 that need not be here.",
            show_default="that of the records, else cuda if there is one",
        ),
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Records to advise from; may be given again.",
            show_default="tuned tables, else predictions",
        ),
    ] = None,
    price: Price = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write a page to: .html or .md.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Advise which dispatch and configuration to use for a mix of traffic, from records, tuned tables or predictions.

    Nothing is measured. Every time says where it is from, and every margin over the second best how sure it is. Exit
    code 1 means that there is nothing to advise for a phase.
    """
    with user_errors():
        from ...suites.advice.advised_device import advised_device
        from ...suites.advice.adviser import AdviceRequest, advise
        from ...suites.advice.traffic_mix import parse_traffic

        phases = parse_traffic(traffic)
        if output is not None:
            _check_output(output)
        ((layer, problem),) = words.problems()
        known = _records(records or [])
        advice = advise(
            AdviceRequest(
                layer=layer,
                problem=problem,
                model=_model(words, layer),
                traffic=phases,
                device=advised_device(device, known),
                records=known,
                price=price,
                words=words.command_line(),
            )
        )
        if output is not None:
            from ...reports.advice.advice_page import write_page

            write_page(advice, output)
    if as_json:
        screen.say_json(advice.model_dump(mode="json", exclude_none=True))
    else:
        from ...reports.advice.advice_table import advice_table

        console = screen.console()
        for part in advice_table(advice):
            console.print(part)
    if not advice.complete:
        raise typer.Exit(BAD_ANSWER)


def _check_output(path: Path) -> None:
    """Refuse a page of no known kind, or in place of what is not to be lost, before work that would be lost with it."""
    from ...results.record.file_content import FileContent, refuse_no_place, refuse_to_replace

    refuse_no_place(path)
    if path.suffix not in (".html", ".md"):
        refuse(f"--output {path}: give the name of a page, which ends in .html or .md")
    refuse_to_replace(path, FileContent.other)


def _records(paths: list[Path]) -> list[Record]:
    """Return the records of files, each of which must have some; say what is left out."""
    from ...results.record.store import load

    found = []
    for path in paths:
        loaded = load(path)
        if not loaded.records:
            why = f" ({loaded.problems[0]})" if loaded.problems else ""
            refuse(f"--records {path} holds no records{why}: give a file that `moebench run` wrote")
        for problem in loaded.problems:
            complain(problem)
        found += loaded.records
    return found


def _model(words: ProblemWords, layer: Layer) -> Model | None:
    """Return the model whose layer is advised on as it is, None for a scaled layer or a shape."""
    if layer.width is not None:
        return None
    if words.config is not None:
        from ...kernels.problem.configs.model_config import model_of_config

        return model_of_config(words.config)
    from ...kernels.problem.models import model

    return None if layer.model is None else model(layer.model)

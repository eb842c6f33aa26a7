"""`moebench trace record`: the routes that a transformers model chooses while it reads a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .. import screen
from ..errors import user_errors
from ..problem_options import separated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...kernels.module.route_recorder import RecordedRouter


def record(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME_OR_PATH",
            help="A Mixture-of-Experts model of transformers: a folder, or a name that transformers can load.",
            show_default=False,
        ),
    ],
    text: Annotated[
        Path | None,
        typer.Option("--text", metavar="FILE", help="Text in UTF-8 that the model reads.", show_default="a novel"),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            metavar="L,…",
            callback=separated,
            help="Layers to record, numbers or names; may be given again.",
            show_default="all with experts",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            "-T",
            min=1,
            help="Tokens of the text to read, no more than these.",
            show_default="the whole text",
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of one forward.", show_default="1024, or what the model has positions for"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write the trace to.", show_default="the model's name, with .npz"),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        typer.Option(help="Device that the model runs on.", show_default="cuda if there is one"),
    ] = None,
) -> None:
    """Record which experts the tokens of a text choose in a transformers model, and with what weights.

    The trace is a load: `--load trace:FILE,layer=L` measures its routes in their order. Python code of the model's
    folder is not executed.
    """
    with user_errors():
        import torch

        from ...common.packages import installed_version
        from ...kernels.module.route_recorder import chosen_routers, find_routers
        from ...kernels.module.text_recording import load_model, run_steps, steps_of, tokenize
        from ...kernels.problem.traces.trace_writer import write_trace
        from ...results.record.file_content import FileContent, refuse_no_place, refuse_to_replace
        from .run import best_device

        path = output or Path(f"{Path(model).resolve().name}.npz")
        refuse_no_place(path)
        refuse_to_replace(path, FileContent.other, [] if text is None else [text])
        words, source = _read(text)
        loaded = load_model(model, torch.device(device or best_device()))
        routers = chosen_routers(find_routers(loaded), layers or ())
        read = tokenize(words, model, loaded)
        screen.tell(f"tokenized by {read.tokenizer}")
        steps = steps_of(read.token_T[:tokens], loaded, context)
        console = screen.console(stderr=True)
        sign = screen.SignOfLife(console)
        total = sum(map(len, steps))
        with screen.bar(console) as progress:
            task = progress.add_task("recording", total=total)
            for done in run_steps(loaded, steps, routers):
                progress.update(task, completed=done)
                sign.say(f"recorded {done:,} of {total:,} tokens")
        seen = _called(routers)
        versions = {name: installed_version(name) or "" for name in ("moebench", "torch", "transformers")}
        write_trace(path, [one.routes() for one in seen], model=model, text=source, versions=versions)
    numbers = ", ".join(one.name for one in seen[:2])
    more = f" and {len(seen) - 2} more" if len(seen) > 2 else ""
    screen.say(f"trace: {path}, {total:,} tokens in {len(seen)} layer{'s'[: len(seen) > 1]}: {numbers}{more}")


def _read(text: Path | None) -> tuple[str, str]:
    """Return the text and what it is called; without a file it is the built-in one."""
    from ...common.errors import UserError
    from ...common.files import read_text
    from ...kernels.problem.texts.novel import novel_text

    if text is None:
        return novel_text(), "Jane Austen, Persuasion"
    try:
        return read_text(text), text.name
    except OSError as error:
        raise UserError(f"--text {text}: {error.strerror}: give a file of text in UTF-8") from error


def _called(routers: Sequence[RecordedRouter]) -> list[RecordedRouter]:
    """Return the routers that noted routes; say which did not, as those for images."""
    for one in routers:
        if not one.steps:
            screen.complain(f"{one.name} was never called: it is not in the trace")
    return [one for one in routers if one.steps]

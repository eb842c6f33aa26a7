"""`moebench tune`: find the fastest configuration of a kernel, and keep it where layers look for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .. import screen
from ..errors import refuse, user_errors
from ..executors import AddressOption, SlotsOption, WhereOption, executors
from ..measure.run import Device
from ..problem_options import ONE_FORWARD, ProblemWords, batch_sizes, problem_options

if TYPE_CHECKING:
    from ...autotune.search.candidates import Candidates
    from ...kernels.problem import Problem


@problem_options(many=("tokens",), tokens="16,64,256,1024", dtype="bfloat16", ranks="1", **ONE_FORWARD)
def tune(
    words: ProblemWords,
    kernel: Annotated[str | None, typer.Argument(help="The kernel to tune.", show_default=False)] = None,
    other: Annotated[
        list[str] | None,
        typer.Option("--other-load", help="Compare under this load too; may be given again.", show_default=False),
    ] = None,
    robust: Annotated[
        bool, typer.Option("--robust", help="Search under the other loads too, and choose the least worst regret.")
    ] = False,
    held_out: Annotated[
        str, typer.Option(help="Batch sizes to test the table's look-up at, with commas.", show_default="none")
    ] = "",
    start: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Try first what a file of vLLM or SGLang has.", show_default=False),
    ] = None,
    strategy: Annotated[str, typer.Option(help="How to search; `moebench list strategies` shows them.")] = "model",
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Most candidates tried at a batch size.", show_default="a tenth, 16 to 24"),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Most seconds of trials at a batch size.", show_default="no limit")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File of records to write or continue.", show_default="where layers look"),
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="Device to measure on.", show_default="cuda if there is one")
    ] = None,
    cache: Annotated[Literal["cold", "hot"], typer.Option(help="State of the caches, as for `moebench run`.")] = "cold",
    executor: WhereOption = "local",
    address: AddressOption = None,
    slots: SlotsOption = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", "-t", help="With --show-space, --explain or --plan: for this GPU.", show_default="the device"
        ),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Leave out what does not compile or spills; on a GPU or with --target.")
    ] = False,
    show_space: Annotated[bool, typer.Option("--show-space", help="Print the space and stop.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print why the static model ranks configurations as it does, and stop.")
    ] = False,
    show_plan: Annotated[
        bool, typer.Option("--plan", help="Print what the search will try and how long it should take, and stop.")
    ] = False,
    cores: Annotated[
        int | None,
        typer.Option(min=1, help="With --plan: cores of the machine that will compile.", show_default="of this one"),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="With --explain: how many of the best.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Find the fastest configuration of a kernel for a shape at several batch sizes, checked and compared fairly.

    Ctrl-C ends the search and compares what was found; running again with the same --output continues. Exit code 1
    means that the default or every candidate failed.
    """
    if kernel is None:
        refuse("name a kernel to tune; `moebench list kernels` shows them")
    if target and not (show_space or explain or show_plan):
        refuse(f"--target {target} is for --show-space, --explain and --plan: what is measured is the device")
    with user_errors():
        from .tune_options import candidates_of, plan_of

        layers = [problem for _, problem in words.problems()]
        problems = list(
            dict.fromkeys(problem.core for problem in layers)
        )  # what stands around them has nothing to tune
        if block := layers[0].block:
            screen.complain(
                f"tuned are the experts alone, D={problems[0].D}: what stands around them in {block} runs as it is"
            )
        candidates = candidates_of(kernel, device, target, problems[0])
        if compiled:
            _compile(candidates, problems)
        if show_space or explain:
            from .views import show_explanation, show_spaces

            if show_space:
                show_spaces(candidates, problems, as_json=as_json)
            if explain:
                show_explanation(candidates, problems, top, as_json=as_json)
            return
        plan = plan_of(
            candidates,
            problems,
            held_out=[layers[0].replace(T=T).core for T in batch_sizes(held_out, "--held-out")] if held_out else [],
            start=start,
            trials=trials,
            seconds=seconds,
            loads=other or [],
            strategy=strategy,
            seed=seed,
            robust=robust,
            cache=cache,
        )
        if show_plan:
            from .views import show_time_estimate

            show_time_estimate(plan, candidates, cores, as_json=as_json)
            return
        from .search_session import session

        open_executor = executors(candidates.device_type, executor, address, slots)
        session(plan, candidates, open_executor([kernel], problems[0].ranks), output, as_json=as_json)


def _compile(candidates: Candidates, problems: Sequence[Problem]) -> None:
    """Leave out configurations that spill or do not compile, and show the progress."""
    if reason := candidates.uncompiled:
        refuse(f"--compile: {reason}")
    console = screen.console(stderr=True)
    sign = screen.SignOfLife(console)
    with console.status("compiling") as status, candidates.compiling() as faults:
        for problem in problems:
            total = len(candidates.space(problem))
            for done in candidates.leave_out_faults(problem, faults):
                doing = f"T = {problem.T}: {done} of {total} configurations compiled"
                status.update(doing)
                sign.say(doing)

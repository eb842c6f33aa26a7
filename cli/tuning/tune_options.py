"""The options of `moebench tune` as candidates and a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import refuse

if TYPE_CHECKING:
    from ...autotune.search.candidates import Candidates
    from ...autotune.search.tuning_plan import TuningPlan
    from ...kernels.config import Config
    from ...kernels.problem import Problem


def candidates_of(kernel: str, device: str | None, target: str | None, problem: Problem) -> Candidates:
    """Return the candidates on a device, by default the GPU if there is one, or on a target.

    Raises:
        UnknownName: for an unknown kernel or target.
        InvalidProblem: when the kernel cannot take the problem there.
    """
    import torch

    from ...autotune.search.candidates import Candidates
    from ...common.names import unknown
    from ...kernels.catalog import KERNELS
    from ...kernels.hardware.gpus import HARDWARE
    from ...kernels.problem import InvalidProblem

    if target is not None and target not in HARDWARE:
        raise unknown("target", target, list(HARDWARE))
    here = device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = Candidates(kernel=KERNELS.load(kernel), device=torch.device("meta" if target else here), target=target)
    if refusal := found.refusal(problem):
        raise InvalidProblem(f"{kernel} {refusal}")
    return found


def plan_of(
    candidates: Candidates,
    problems: list[Problem],
    *,
    held_out: list[Problem],
    start: Path | None,
    trials: int | None,
    seconds: float | None,
    loads: list[str],
    strategy: str,
    seed: int,
    robust: bool,
    cache: Literal["cold", "hot"],
) -> TuningPlan:
    """Return the plan; the number of trials is by default `trials_for` the largest space.

    Raises:
        NoConfiguration: when nothing can be built for a problem.
        InvalidProblem: for a load that there is not.
        UnknownName: for an unknown strategy.
    """
    from ...autotune.search.strategy import STRATEGIES
    from ...autotune.search.tuning_plan import HANG_S, QUOTED_S, TuningPlan, trials_for
    from ...kernels.problem.trace import with_digest
    from ...kernels.tuned.source_hash import source_hash

    STRATEGIES.load(strategy)
    if robust and not loads:
        refuse("--robust searches under other loads too: name them, --other-load zipf:1.2")
    if cache == "hot" and candidates.device_type == "cpu":
        refuse("--cache hot replays a CUDA graph, and the device is cpu: use cold")
    loads = [problems[0].replace(load=with_digest(load)).load for load in loads]
    largest = max(len(candidates.space(problem)) for problem in problems)
    return TuningPlan(
        kernel=candidates.kernel.name,
        source=source_hash(candidates.kernel.name),
        problems=tuple(problems),
        held_out=tuple(held_out),
        starts=_starts(start, candidates.kernel.name, [problem.T for problem in (*problems, *held_out)]),
        loads=tuple(loads),
        strategy=strategy,
        trials=trials or trials_for(largest),
        seconds=float("inf") if seconds is None else seconds,
        quoted_s=QUOTED_S[candidates.device_type],
        hang_s=HANG_S[candidates.device_type],
        seed=seed,
        robust=robust,
        cache=cache,
    )


def _starts(path: Path | None, kernel: str, tokens: list[int]) -> dict[int, list[Config]]:
    """Return the configurations that the file of a serving engine has for these batch sizes."""
    if path is None:
        return {}
    from ...autotune.tables.engine import engine_of
    from ...autotune.tables.export import SAME_TILES
    from ...autotune.tables.starts import beside, candidates, refusal

    if kernel != SAME_TILES:
        refuse(f"--start {path}: serving engines have the tiles of {SAME_TILES}, not of {kernel}")
    file = engine_of(path).load(path)
    if reason := refusal(file):
        refuse(f"--start {path}: {reason}")
    return {T: beside(candidates(file), T) for T in tokens}

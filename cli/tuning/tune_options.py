"""The options of `moebench tune` as problems, candidates and a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from ..errors import refuse

if TYPE_CHECKING:
    from ...autotune.search.candidates import Candidates
    from ...autotune.search.tuning_plan import TuningPlan
    from ...kernels.config import Config
    from ...kernels.problem import Problem


class Sizes(TypedDict):
    """The letters of a shape; see `kernels.problem`."""

    D: int
    F: int
    E: int
    K: int


def problems_of(
    *,
    model: str | None,
    shape: str | None,
    width: int | None,
    tokens: str,
    load: str,
    **fields: object,
) -> list[Problem]:
    """Return one problem for each batch size, the smallest first.

    Raises:
        InvalidProblem: naming the option that cannot be understood.
    """
    from ...kernels.problem import InvalidProblem, Problem
    from ...kernels.problem.models import model as named

    if (model is None) == (shape is None):
        raise InvalidProblem("give a --model or a --shape D=…,F=…,E=…,K=…, one of the two")
    first = Problem(T=1, **_sizes(shape)) if shape is not None else named(str(model)).problem(T=1)
    first = first.replace(load=load_of(load), **fields)
    if width is not None:
        first = first.scaled(width)
    return [first.replace(T=T) for T in numbers(tokens, "--tokens")]


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


def numbers(words: str, option: str) -> list[int]:
    """Return the batch sizes in a list with commas, ascending, each once.

    Raises:
        InvalidProblem: naming what is no number.
    """
    from ...kernels.problem import InvalidProblem

    found = [word.strip() for word in words.split(",") if word.strip()]
    for word in found:
        if not word.isdecimal() or not int(word):
            raise InvalidProblem(f"{option} {words}: {word!r} is no batch size; give numbers like 16,64,256")
    return sorted({int(word) for word in found})


def load_of(word: str) -> str:
    """Return a load as problems have it; the path of a trace becomes absolute, with the digest of its content.

    Raises:
        InvalidTrace: when the file is no trace.
    """
    from ...kernels.problem.trace import PREFIX, load_of

    return load_of(word.removeprefix(PREFIX)) if word.startswith(PREFIX) and "#" not in word else word


def plan_of(
    candidates: Candidates,
    problems: list[Problem],
    *,
    held_out: str,
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
        UnknownName: for an unknown strategy.
    """
    from ...autotune.search.strategy import STRATEGIES
    from ...autotune.search.tuning_plan import HANG_S, QUOTED_S, TuningPlan, trials_for
    from ...kernels.tuned.source_hash import source_hash

    STRATEGIES.load(strategy)
    later = numbers(held_out, "--held-out")
    largest = max(len(candidates.space(problem)) for problem in problems)
    return TuningPlan(
        kernel=candidates.kernel.name,
        source=source_hash(candidates.kernel.name),
        problems=tuple(problems),
        held_out=tuple(problems[0].replace(T=T) for T in later),
        starts=_starts(start, candidates.kernel.name, [*(problem.T for problem in problems), *later]),
        loads=tuple(load_of(load) for load in loads),
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


def _sizes(shape: str) -> Sizes:
    from ...kernels.problem import InvalidProblem

    given = dict(part.split("=", 1) for part in shape.split(",") if "=" in part)
    if sorted(given) != sorted(Sizes.__required_keys__) or not all(value.isdecimal() for value in given.values()):
        raise InvalidProblem(f"--shape {shape}: give it as D=512,F=1792,E=8,K=2, with all four")
    return {"D": int(given["D"]), "F": int(given["F"]), "E": int(given["E"]), "K": int(given["K"])}

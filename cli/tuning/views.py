"""Text and JSON of `moebench tune`: spaces, explanations, time estimates, and the table of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from ...reports.tables.stacked_table import fitted
from ..errors import refuse
from ..screen import say, say_json, say_pairs, say_table, width

if TYPE_CHECKING:
    from pathlib import Path

    from ...autotune.search.candidates import Candidates
    from ...autotune.search.space import Space
    from ...autotune.search.static_model import Estimate
    from ...autotune.search.tuning_plan import TuningPlan
    from ...autotune.tables.held_out import HeldOut
    from ...kernels.config import Config
    from ...kernels.kernel import Kernel
    from ...kernels.problem import Problem
    from ...kernels.tuned.tuned_table import Bucket, TableEntry, TunedTable
    from ...results.record import Record

SHOWN_FAILURES: Final = 5  # candidates that fail alike fill a screen without saying more


def words(config: Config, beside: Config | None = None) -> str:
    """Return a configuration as ``name=value``, or the part of it that differs from another one."""
    found = {name: value for name, value in config.items() if beside is None or beside.get(name) != value}
    return " ".join(f"{name}={value}" for name, value in found.items())


def show_spaces(candidates: Candidates, problems: Sequence[Problem], *, as_json: bool) -> None:
    """Print, for each batch size, the axes with their values and how many configurations the constraints leave."""
    spaces = {problem: candidates.space(problem) for problem in problems}
    guaranteed = {problem: _guaranteed(candidates.kernel, problem, space) for problem, space in spaces.items()}
    if as_json:
        say_json({one.T: _plain_space(space, guaranteed[one]) for one, space in spaces.items()})
        return
    for problem, space in spaces.items():
        T, in_every_batch = problem.T, guaranteed[problem]
        excluded = space.declared - len(space)
        say(
            f"{space.kernel}, T = {T}: {space.declared} configurations"
            + (f", {excluded} of them excluded, {len(space)} left" if excluded else "")
        )
        said = {axis.name: f"{_kind(axis.values[0])} {'  '.join(map(str, axis.values))}" for axis in space.axes}
        said |= {name: f"{_kind(value)} {value}  (always)" for name, value in space.fixed.items()}
        say_pairs(said.items(), indent=2)
        for fault, count in space.faults.items():
            say(f"  {count} excluded, like: {space.examples[fault]}")
        how_many = "all" if in_every_batch == len(space) else str(in_every_batch) if in_every_batch else "none"
        say(f"  same bits in every batch by construction: {how_many}")
        say(f"  default: {words(space.default)}\n")


def _guaranteed(kernel: Kernel, problem: Problem, space: Space) -> int:
    """Return how many configurations guarantee that a token's result does not depend on its batch."""
    return sum(kernel.guarantee(problem, config).of_every_batch for config in space.configs)


def _kind(value: object) -> str:
    return f"{type(value).__name__:<5}"


def _plain_space(space: Space, guaranteed: int) -> dict[str, object]:
    return {
        "declared": space.declared,
        "valid": len(space),
        "axes": {axis.name: axis.values for axis in space.axes},
        "fixed": dict(space.fixed),
        "default": dict(space.default),
        "same_bits_in_every_batch": guaranteed,
        "excluded": [{"count": count, "like": space.examples[fault]} for fault, count in space.faults.items()],
    }


def show_explanation(candidates: Candidates, problems: Sequence[Problem], top: int, *, as_json: bool) -> None:
    """Print the ``top`` of the static model's ranking and the default, each with the steps of its time."""
    found = {problem.T: list(_explained(candidates, problem, top)) for problem in problems}
    if as_json:
        say_json({T: [_plain_estimate(*one) for one in ranked] for T, ranked in found.items()})
        return
    for problem in problems:
        space = candidates.space(problem)
        say(f"{space.kernel}, T = {problem.T}, load {problem.load}: {len(space)} configurations, by the model")
        if not found[problem.T]:
            say("  there is no static model of this kernel\n")
        for rank, estimate in found[problem.T]:
            same = estimate.config == space.default
            say(
                f"  {rank}. {1e3 * estimate.seconds:.4g} ms  "
                + (f"default: {words(space.default)}" if same else words(estimate.config, space.default))
            )
            parts = [(part.name, f"{1e3 * part.seconds:8.4f} ms  {part.why}") for part in estimate.parts]
            say_pairs(parts, indent=7)
        say("")


def _explained(candidates: Candidates, problem: Problem, top: int) -> Iterator[tuple[int, Estimate]]:
    space = candidates.space(problem)
    predicted = candidates.predict(problem, space.configs)
    if predicted is None:
        return
    order = sorted(range(len(space)), key=lambda index: predicted[index])
    for rank, index in enumerate(order, start=1):
        if rank <= top or index == 0:
            estimate = candidates.estimate(problem, space.configs[index])
            if estimate is not None:
                yield rank, estimate


def _plain_estimate(rank: int, estimate: Estimate) -> dict[str, object]:
    return {
        "rank": rank,
        "config": dict(estimate.config),
        "seconds": estimate.seconds,
        "parts": [asdict(part) for part in estimate.parts],
    }


def show_time_estimate(plan: TuningPlan, candidates: Candidates, cores: int | None, *, as_json: bool) -> None:
    """Print how long each batch size should take on a GPU when its candidates are compiled on so many cores."""
    from ...autotune.search.time_estimate import START_S, estimate_times
    from ...common.cores import usable_cores

    if candidates.gpu is None:
        refuse(f"--plan estimates for GPUs, {candidates.device} is not one: give a --target")

    def call_s(problem: Problem) -> float:
        predicted = candidates.predict(problem, [candidates.space(problem).default])
        if predicted is None:
            refuse(f"--plan: there is no static model of {plan.kernel} to estimate its calls by: tune without --plan")
        return predicted[0]

    cores = cores or len(usable_cores())
    found = estimate_times(plan, lambda problem: len(candidates.space(problem)), call_s, cores)
    if as_json:
        say_json([asdict(one) | {"seconds": one.seconds} for one in found])
        return
    titles = [
        "batch size",
        "configurations",
        "trials",
        "compiling, s",
        "sampling, s",
        "checks, s",
        "comparing, s",
        "all, s",
    ]
    rows = [
        [
            str(one.problem.T),
            str(len(candidates.space(one.problem))),
            str(one.trials),
            *(f"{s:.0f}" for s in (one.compiling_s, one.sampling_s, one.checking_s, one.comparing_s, one.seconds)),
        ]
        for one in found
    ]
    total = START_S + sum(one.seconds for one in found)
    say_table(titles, rows)
    say(f"\nabout {total:.0f} s with the start, compiled on {cores} cores; estimated")


def answer(table: TunedTable, shape: Problem) -> Iterator[str]:
    """Yield what a table has for a shape as Markdown: for each load a title, and a row for each batch size."""
    for entry in _entries(table, shape):
        yield (
            f"{table.kernel} on {table.environment['device']}: D={shape.D} F={shape.F} E={shape.E} K={shape.K} "
            f"{shape.dtype} {shape.mode}, load {', '.join(entry.loads)}"
            f"{' (least worst regret)' if entry.robust else ''}\n"
        )
        yield _rows(entry) + "\n"


def _rows(entry: TableEntry) -> str:
    others = list(dict.fromkeys(load for bucket in entry.buckets for load in bucket.regret))
    what = "differs from the default in"
    titles = ["batch size", "rows/expert", "default, ms", "tuned, ms", "speed-up", "95 % interval"]
    titles += [*(f"regret, {load}" for load in others), what]
    rows = []
    for bucket in entry.buckets:
        low, high = bucket.interval
        tuned = bucket.verdict == "tuned"
        rows.append(
            [
                str(bucket.T),
                f"{entry.rows(bucket.T):.4g}",
                _ms(bucket),
                _ms(bucket, bucket.speedup) if tuned else "–",
                f"{bucket.speedup:.3f}" if tuned else "tie",
                f"{low:.3f} to {high:.3f}",
                *(f"{100 * bucket.regret[load]:.1f} %" if load in bucket.regret else "" for load in others),
                words(entry.configs[bucket.chosen], entry.configs[bucket.default]) or "nothing: default kept",
            ]
        )
    return fitted(titles, rows, words=[what], width=width())


def _ms(bucket: Bucket, speedup: float = 1.0) -> str:
    """Return the default's time over the speed-up in ms: the two configurations were measured in different rounds."""
    ns = bucket.ns(bucket.default)
    return "" if ns is None else f"{ns / speedup / 1e6:.4g}"


def _entries(table: TunedTable, shape: Problem) -> list[TableEntry]:
    return [entry for entry in table.entries if entry.shape == shape]


def plain(table: TunedTable, shape: Problem) -> Iterator[dict[str, object]]:
    """Yield the same rows for JSON."""
    for entry in _entries(table, shape):
        for bucket in entry.buckets:
            yield {
                "T": bucket.T,
                "loads": list(entry.loads),
                "rows_per_expert": entry.rows(bucket.T),
                "verdict": bucket.verdict,
                "default_ns": bucket.ns(bucket.default),
                "tuned_ns": bucket.ns(bucket.chosen),
                "speedup": bucket.speedup,
                "interval": list(bucket.interval),
                "noise": bucket.noise,
                "regret": dict(bucket.regret),
                "config": dict(entry.configs[bucket.chosen]),
            }


def failure_lines(failed: Sequence[Record], path: Path) -> Iterator[str]:
    """Yield a line for each configuration that failed with where and why, for some of them; the rest are in a file."""
    for record in failed[:SHOWN_FAILURES]:
        status = record.status.value.replace("_", " ")
        config = " ".join(f"{name}={value}" for name, value in record.config.items())
        yield f"{status}: {config} at T = {record.problem['T']}: {record.reason}"
    if (more := len(failed) - SHOWN_FAILURES) > 0:
        yield f"and {more} more that failed, in {path}"


def plain_failures(failed: Sequence[Record]) -> Iterator[dict[str, object]]:
    """Yield what JSON says of each configuration that failed."""
    for record in failed:
        place = {name: record.problem[name] for name in ("T", "load")}
        yield {**place, "config": record.config, "status": record.status.value, "reason": record.reason}


def held_out_lines(regrets: Sequence[HeldOut]) -> Iterator[str]:
    """Yield a line for each batch size that was held out: what the look-up loses there."""
    for one in regrets:
        worth = "not covered" if one.regret is None else f"regret of the look-up {100 * one.regret:.1f} %"
        yield f"held out, T = {one.place.T}: {worth} ({one.why})"

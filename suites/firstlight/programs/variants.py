"""Measurement of single choices: each choice of a kernel is changed alone and measured in turn with the default."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ....autotune.search.space import Space
from ....common.cores import usable_cores
from ....execution.trial.task import Budget, Competitor, Task
from ....execution.workers.supervisor import Supervisor
from ....kernels.catalog import KERNELS
from ....kernels.compiler.compilers import Compilers
from ....kernels.compiler.survey import unable
from ....kernels.config import Config
from ....kernels.problem import Problem
from ....results.record import Point, Record
from ....results.record.store import Store
from ..forms import SessionForm, form
from ._progress import print_progress
from .precompile import case

KERNEL = "triton_scatter"
TOGETHER = 8  # variants in one task: no more than these are lost when time is up
HANG_S = 30.0  # a variant that takes longer to compile or run is taken to hang


def main() -> None:
    """Read the arguments (form, file of records) and measure. Exit code 1 means that a record is bad."""
    name, path = sys.argv[1:]
    chosen = form(name)
    bad = False
    with (
        Store(Path(path)) as store,
        Supervisor(chosen.device, [KERNEL]) as isolated,
        Compilers(len(usable_cores())) as compilers,
    ):
        done = [(record.point, record.key) for record in store.loaded.records]
        for task in (task for task in tasks(chosen) if (task.point, task.problem.key) not in done):
            compile_all(task, compilers)
            records = isolated.run(task)
            for record in records:
                store.append(record)
            bad |= print_progress(task, records)
            for line in ratios(records):
                print(line)  # noqa: T201  # the log
    sys.exit(int(bad))


def tasks(chosen: SessionForm) -> list[Task]:
    """Return tasks of several variants each, at every problem.

    The default takes part twice in each task: the difference of its two times shows the noise. Variants that have
    never run on hardware, and may hang, come last.
    """
    device = torch.device(chosen.device)
    proven, unproven = [], []
    for problem in chosen.variants:
        space = Space.of(KERNELS.load(KERNEL), problem, device)
        variants = one_change(space, chosen.most)
        for number, start in enumerate(range(0, len(variants), TOGETHER), start=1):
            proven.append(_task(chosen, problem, space, variants[start : start + TOGETHER], f"group {number}"))
        if untried := one_unproven_change(space):
            unproven.append(_task(chosen, problem, space, untried, "unproven"))
    return [*proven, *unproven]


def _task(chosen: SessionForm, problem: Problem, space: Space, variants: Sequence[Config], group: str) -> Task:
    configs = (space.default, space.default, *variants)
    return Task(
        point=Point(
            suite="variants",
            question="What is each choice of the kernel worth by itself?",
            axis="tokens T",
            series=f"D={problem.D}, F={problem.F}, E={problem.E}, K={problem.K}, {problem.mode}, {group}",
            x=problem.T,
            baseline=KERNEL,
        ),
        problem=problem,
        competitors=tuple(Competitor(kernel=KERNEL, config=config) for config in configs),
        budget=Budget(seconds=0.3, timeout_s=HANG_S, samples=chosen.samples),
    )


def one_change(space: Space, most: int) -> list[Config]:
    """Return at most ``most`` proven configurations that differ from the default in one choice.

    They take turns over the choices, so that each choice is changed before any is changed again.
    """
    by_choice: dict[str, list[Config]] = {}
    for place, config in enumerate(space.configs):
        changed = difference(config, space.default)
        if len(changed) == 1 and place not in space.unproven:
            by_choice.setdefault(next(iter(changed)), []).append(config)
    turns = max(map(len, by_choice.values()), default=0)
    dealt = [group[turn] for turn in range(turns) for group in by_choice.values() if turn < len(group)]
    return dealt[:most]


def one_unproven_change(space: Space) -> list[Config]:
    """Return the configurations that differ from the default in one choice which has never run on hardware."""
    untried = [space.configs[place] for place in sorted(space.unproven)]
    return [config for config in untried if len(difference(config, space.default)) == 1]


def difference(config: Mapping[str, object], default: Mapping[str, object]) -> dict[str, object]:
    """Return the values of a configuration that differ from the default."""
    return {name: value for name, value in config.items() if value != default[name]}


def compile_all(task: Task, compilers: Compilers) -> None:
    """Compile the competitors of a task on all cores, unless kernels are interpreted."""
    if unable() is None:
        # The default competes twice. A variant that does not compile is reported when it is measured.
        configs = [one.config for one in task.competitors if one.config is not None][1:]
        list(compilers.compile([case(KERNEL, task.problem, config) for config in configs]))


def ratios(records: Sequence[Record]) -> list[str]:
    """Return a line for each variant, the fastest first, with its time divided by the default's."""
    default = next((record for record in records if record.timing), None)
    if default is None or default.timing is None:
        return []
    base = statistics.median(default.timing.samples_ns)
    measured = [(statistics.median(record.timing.samples_ns) / base, record) for record in records if record.timing]
    lines = []
    for ratio, record in sorted(measured, key=lambda one: one[0]):
        changed = difference(record.config, default.config)
        what = " ".join(f"{name}={value}" for name, value in changed.items()) or "the default"
        lines.append(f"  {ratio:.3f}  {what}")
    return lines


if __name__ == "__main__":
    main()

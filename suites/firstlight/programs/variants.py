"""Change every choice of a kernel by itself, and measure it in turn with the default: what each choice is worth."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ....autotune.isolated import Isolated
from ....autotune.space import Space
from ....autotune.task import Budget, Competitor, Task
from ....kernels.catalog import KERNELS
from ....kernels.compiled.survey import Case, unable
from ....kernels.kernel import Config
from ....kernels.problem import Problem
from ....results.record import Point, Record
from ....results.store import Store
from ..forms import Form, form
from ._progress import told
from .precompile import compiled, target

KERNEL = "triton_scatter"
TOGETHER = 8  # in one task: so few are lost when time is up
HANG_S = 30.0  # a variant that compiles or runs for longer hangs
UNPROVEN = ("specialise",)  # has never run on hardware, and may hang


def main() -> None:
    """Arguments: the form, and the file of records to write. Exit code 1 means a bad answer."""
    name, path = sys.argv[1:]
    chosen = form(name)
    bad = False
    with Store(Path(path)) as store, Isolated(chosen.device, [KERNEL]) as isolated:
        done = [(record.point, record.key) for record in store.loaded.records]
        for task in (task for task in tasks(chosen) if (task.point, task.problem.key) not in done):
            compile_all(task)
            records = isolated.run(task)
            for record in records:
                store.append(record)
            bad |= told(task, records)
            for line in ratios(records):
                print(line)  # noqa: T201  # the log
    sys.exit(int(bad))


def tasks(chosen: Form) -> list[Task]:
    """The variants at every problem, some in a task, beside the default twice: their difference is the noise."""
    device = torch.device(chosen.device)
    found = []
    for problem in chosen.variants:
        space = Space.of(KERNELS.load(KERNEL), problem, device)
        variants = one_change(space, chosen.most)
        for number, start in enumerate(range(0, len(variants), TOGETHER), start=1):
            configs = [space.default, space.default, *variants[start : start + TOGETHER]]
            found.append(_task(chosen, problem, configs, number))
    return found


def _task(chosen: Form, problem: Problem, configs: Sequence[Config], number: int) -> Task:
    return Task(
        point=Point(
            suite="variants",
            question="What is each choice of the kernel worth by itself?",
            axis="tokens T",
            series=f"D={problem.D}, F={problem.F}, E={problem.E}, K={problem.K}, {problem.mode}, group {number}",
            x=problem.T,
            baseline=KERNEL,
        ),
        problem=problem,
        competitors=tuple(Competitor(kernel=KERNEL, config=config) for config in configs),
        budget=Budget(seconds=0.3, timeout_s=HANG_S, samples=chosen.samples),
    )


def one_change(space: Space, most: int) -> list[Config]:
    """The configurations that differ from the default in one choice, of every choice in turn, at most so many."""
    by_choice: dict[str, list[Config]] = {}
    for config in space.configs:
        changed = difference(config, space.default)
        if len(changed) == 1 and not changed.keys() & set(UNPROVEN):
            by_choice.setdefault(next(iter(changed)), []).append(config)
    turns = max(map(len, by_choice.values()), default=0)
    dealt = [group[turn] for turn in range(turns) for group in by_choice.values() if turn < len(group)]
    return dealt[:most]


def difference(config: Mapping[str, object], default: Mapping[str, object]) -> dict[str, object]:
    """What of a configuration is not as in the default."""
    return {name: value for name, value in config.items() if value != default[name]}


def compile_all(task: Task) -> None:
    """Compile the competitors of a task with all cores, where kernels are compiled."""
    if unable() is None:
        work = [
            Case(kernel=KERNEL, model="", problem=task.problem, config=who.config, target=target())
            for who in task.competitors
            if who.config is not None
        ]
        compiled(work)


def ratios(records: Sequence[Record]) -> list[str]:
    """A line for each variant, the fastest first: its time over the default's."""
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

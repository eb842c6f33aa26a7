"""Tuning one kernel: search at each batch size, compare the finalists, then see what they are worth elsewhere."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ...common.errors import UserError
from ...execution.trial.task import Budget, Competitor, Task
from ...execution.workers.executor import Executor
from ...execution.workers.supervisor import unmeasured
from ...execution.workers.worker import Ready
from ...kernels.config import Config
from ...kernels.problem import Problem
from ...results.record import Point, Record, Stage, Status
from ...results.record.environment import commit
from ...results.record.store import Store
from .compile_ahead import Faults, none_known
from .space import Space
from .stages import SUITE, Batch, batches, belongs, distinct, last_number, score
from .strategy import FULL_SAMPLES, STRATEGIES, Strategy, Suggestion

QUESTION = "Which configuration of {kernel} is the fastest?"
BATCH = 4  # candidates in one task beside the default: more leave the search less to learn from, fewer cost its samples


class DefaultFails(UserError):
    """There is nothing to compare candidates with; the message says why."""


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """What is tuned: a kernel by name, one problem for each batch size, all under the load that is tuned for.

    Under the ``loads`` the choice is compared too; with ``robust`` each of them is searched. ``held_out`` are batch
    sizes that no table holds: what a table says of them is compared with what a search finds. A search tries first what
    ``starts`` has for its batch size. ``trials`` and ``seconds`` bound the search for one problem; ``quoted_s`` are the
    timed seconds of each finalist. A candidate that is silent for ``hang_s`` is taken for one that hangs.
    """

    kernel: str
    source: str
    problems: tuple[Problem, ...]
    strategy: str
    trials: int
    seconds: float
    quoted_s: float
    hang_s: float
    seed: int = 0
    loads: tuple[str, ...] = ()
    held_out: tuple[Problem, ...] = ()
    starts: Mapping[int, Sequence[Config]] = field(default_factory=dict)
    robust: bool = False
    cache: Literal["cold", "hot"] = "cold"

    @property
    def searched(self) -> list[Problem]:
        """Every problem that is searched."""
        robust = [problem.replace(load=load) for load in self.loads for problem in self.problems] if self.robust else []
        return [*self.problems, *self.held_out, *robust]


@dataclass(frozen=True, kw_only=True)
class TuningProgress:
    """After each task: its stage and problem, the trials of the search there, and the best score so far."""

    stage: Stage
    problem: Problem
    trials: int
    best: float | None


@dataclass
class TuningTime:
    """Of searches: ``waited_s`` for trials and ``compiled_s``, of ``total_s`` in all, and the ``trials`` asked for."""

    total_s: float = 0.0
    waited_s: float = 0.0
    compiled_s: float = 0.0
    trials: int = 0

    @property
    def own_s(self) -> float:
        """Seconds a trial that are the tuner's own."""
        return (self.total_s - self.waited_s - self.compiled_s) / self.trials if self.trials else 0.0


@dataclass
class Search:
    """The state of the search for one problem."""

    problem: Problem
    space: Space
    strategy: Strategy
    starts: list[int]
    trials: int = 0
    seconds: float = 0.0
    default_ns: float | None = None

    def tell(self, batch: Sequence[Record]) -> None:
        """Take what one interleaved batch says.

        Raises:
            DefaultFails: when the default has no time, in this batch or before.
        """
        default = next(record for record in batch if record.config == dict(self.space.default))
        if default.timing is not None:
            self.default_ns = score(default, 1.0)[1]
        if self.default_ns is None:
            raise DefaultFails(f"{default.status.value}: {default.reason}")
        for record in batch:
            self._learn(record, self.default_ns)
        self.seconds += sum(record.wall_s for record in batch)

    def leave_out(self, faulty: Sequence[Record]) -> None:
        """Take the records of candidates that were not measured for what the compiler said of them."""
        for record in faulty:
            self._learn(record, math.inf)

    def _learn(self, record: Record, default_ns: float) -> None:
        if record.config != dict(self.space.default) and record.config in self.space.configs:
            self.strategy.tell(self.space.index(record.config), *score(record, default_ns))
            self.trials += 1

    @property
    def finalists(self) -> list[Config]:
        """The best candidates so far."""
        return [self.space.configs[index] for index in self.strategy.scores.finalists()]

    @property
    def best(self) -> float:
        """The best score so far."""
        return self.strategy.scores.score(self.strategy.scores.best())


class Tuner:
    """Carries out a plan: its records go to the store as they are made, and what the store holds is not made again.

    ``space_of`` gives the candidates for a problem, ``predict`` what the static model says of them, or None, and
    ``faults`` what the compiler says of them. It is asked before they are measured, so that whoever measures them finds
    them compiled, and one with a fault costs a record and no worker.
    """

    def __init__(
        self,
        plan: TuningPlan,
        executor: Executor,
        store: Store,
        *,
        space_of: Callable[[Problem], Space],
        predict: Callable[[Problem, Sequence[Config]], Sequence[float] | None],
        faults: Faults = none_known,
    ) -> None:
        self._plan = plan
        self._executor = executor
        self._store = store
        self._space_of = space_of
        self._predict = predict
        self._faults = faults
        self._searches: dict[Problem, Search] = {}
        self._numbers: Counter[tuple[Stage, Problem]] = Counter()
        self._waited_s = 0.0
        self._compiled_s = 0.0
        self.spent = TuningTime()
        self.interrupted = False
        self.records = [
            record
            for record in store.loaded.records
            if belongs(
                record,
                kernel=plan.kernel,
                source=plan.source,
                environment=executor.environment,
                cache=plan.cache,
            )
        ]

    def search(self) -> Iterator[TuningProgress]:
        """Search for the fastest configurations of every problem, until `stop` is called.

        Raises:
            DefaultFails: when the default configuration of a problem does.
        """
        for problem in self._plan.searched:
            if not self.interrupted:
                yield from self._search(problem)

    def stop(self) -> None:
        """Let the search end with what is under way; what it has found may then be compared."""
        self.interrupted = True

    def compare(self, winners: Callable[[Sequence[Record]], Sequence[Config]]) -> Iterator[TuningProgress]:
        """Compare the finalists of each batch size, then those that won at any under every load.

        ``winners`` says who won by the records of the first comparison.
        """
        found = [problem for problem in self._plan.problems if problem in self._searches]
        for problem in found:
            yield from self._compare("final", problem, self._searches[problem].finalists)
        everywhere = winners(self.records)
        for problem in found:
            for load in (problem.load, *self._plan.loads):
                elsewhere = self._searches.get(problem.replace(load=load))
                finalists = [*self._searches[problem].finalists, *(elsewhere.finalists if elsewhere else [])]
                yield from self._compare("cross", problem.replace(load=load), [*everywhere, *finalists])

    def hold_out(self, look_up: Callable[[Problem], Config | None]) -> Iterator[TuningProgress]:
        """Compare what a table says of batch sizes that it does not hold with what a search found there."""
        for problem in self._plan.held_out:
            search, found = self._searches.get(problem), look_up(problem)
            if search and found:
                yield from self._compare("held-out", problem, [found, *search.finalists])

    def failures(self) -> Counter[str]:
        """How many candidates failed, by status."""
        return Counter(record.status.value for record in self._candidates() if record.timing is None)

    def passed(self) -> int:
        """How many candidates did not."""
        return sum(record.timing is not None for record in self._candidates())

    def _candidates(self) -> Iterator[Record]:
        """The records of the searches, without those of the defaults."""
        for problem in self._searches:
            for batch in self._batches("search", problem):
                yield from batch.others

    def _search(self, problem: Problem) -> Iterator[TuningProgress]:
        started, waited_s, compiled_s = time.perf_counter(), self._waited_s, self._compiled_s
        search = self._searches[problem] = self._open(problem)
        pending = 0
        try:
            while True:
                while pending < self._executor.slots and (asks := self._ask(search, pending)):
                    for task in self._tasks(search, asks):
                        search.leave_out(self._submit(task))
                        pending += 1
                if not pending:
                    break
                batch = self._finished()
                pending -= 1
                search.tell(batch)
                yield self._progress("search", problem)
        finally:
            self.spent.total_s += time.perf_counter() - started
            self.spent.waited_s += self._waited_s - waited_s
            self.spent.compiled_s += self._compiled_s - compiled_s

    def _open(self, problem: Problem) -> Search:
        """A search that knows what the records say."""
        space = self._space_of(problem)
        strategy = STRATEGIES.load(self._plan.strategy)
        search = Search(
            problem=problem,
            space=space,
            strategy=strategy(space, seed=self._plan.seed, predicted=self._predict(problem, space.configs)),
            starts=[space.index(config) for config in self._plan.starts.get(problem.T, ()) if config in space.configs],
        )
        for batch in self._batches("search", problem):
            search.tell([batch.default, *batch.others])
        return search

    def _ask(self, search: Search, pending: int) -> list[Suggestion]:
        """The next candidates, as many as the budget has left."""
        left = self._plan.trials - search.trials - pending * BATCH
        if self.interrupted or left <= 0 or search.seconds >= self._plan.seconds:
            return []
        count = min(BATCH, left)
        first = [index for index in search.starts if index not in search.strategy.scores][:count]
        search.starts = [index for index in search.starts if index not in first]
        return [Suggestion(index, FULL_SAMPLES) for index in first] or search.strategy.ask(count)

    def _tasks(self, search: Search, asks: Sequence[Suggestion]) -> Iterator[Task]:
        """The candidates beside the default, those of one number of samples together."""
        for samples in dict.fromkeys(ask.samples for ask in asks):
            configs = [search.space.configs[ask.index] for ask in asks if ask.samples == samples]
            self.spent.trials += len(configs)
            yield self._task("search", search.problem, [search.space.default, *configs], samples)

    def _compare(self, stage: Stage, problem: Problem, candidates: Sequence[Config]) -> Iterator[TuningProgress]:
        """Measure candidates and the default in the same rounds, unless that was done.

        The default takes part twice: how far apart two equal ones are is what a winner must be better than.
        """
        space = self._space_of(problem)
        here = [config for config in distinct(candidates) if config in space.configs and config != space.default]
        configs = [space.default, space.default, *here]
        for batch in self._batches(stage, problem):
            held = [record.config for record in batch.others]
            if all(dict(config) in held for config in configs):
                return
        self._submit(self._task(stage, problem, configs, None))
        self._finished()
        yield self._progress(stage, problem)

    def _batches(self, stage: Stage, problem: Problem) -> list[Batch]:
        return batches(self.records, stage, problem, self._space_of(problem).default)

    def _task(self, stage: Stage, problem: Problem, configs: Sequence[Config], samples: int | None) -> Task:
        place = (stage, problem)
        self._numbers[place] = max(self._numbers[place], last_number(self.records, stage, problem)) + 1
        point = Point(
            suite=SUITE,
            question=QUESTION.format(kernel=self._plan.kernel),
            axis="tokens T",
            series="",
            x=problem.T,
            baseline=self._plan.kernel,
            cache=self._plan.cache,
            stage=stage,
            batch=self._numbers[place],
        )
        return Task(
            point=point,
            problem=problem,
            competitors=tuple(Competitor(kernel=self._plan.kernel, config=config) for config in configs),
            budget=Budget(seconds=self._plan.quoted_s, timeout_s=self._plan.hang_s, samples=samples),
        )

    def _submit(self, task: Task) -> list[Record]:
        """Compile a task's candidates and have them measured, less those with a fault, whose records are kept.

        The default is measured whatever the compiler says of it.
        """
        started = time.perf_counter()
        default = self._space_of(task.problem).default
        faults = list(self._faults(task.problem, [who.config or default for who in task.competitors]))
        self._compiled_s += time.perf_counter() - started
        faulty = {
            index: unmeasured(task, who, self._ready, Status.uncompilable, fault)
            for index, (who, fault) in enumerate(zip(task.competitors, faults, strict=True))
            if fault and who.config != default
        }
        self._keep(list(faulty.values()))
        fit = tuple(who for index, who in enumerate(task.competitors) if index not in faulty)
        self._executor.submit(dataclasses.replace(task, competitors=fit))
        return list(faulty.values())

    @cached_property
    def _ready(self) -> Ready:
        return Ready(self._executor.environment, commit())

    def _finished(self) -> list[Record]:
        """The records of the next task that is done, kept."""
        started = time.perf_counter()
        finished = self._executor.next()
        self._waited_s += time.perf_counter() - started
        self._keep(finished.records)
        return finished.records

    def _keep(self, records: Sequence[Record]) -> None:
        for record in records:
            self._store.append(record)
        self.records += records

    def _progress(self, stage: Stage, problem: Problem) -> TuningProgress:
        search = self._searches.get(problem)
        return TuningProgress(
            stage=stage,
            problem=problem,
            trials=search.trials if search else 0,
            best=search.best if search else None,
        )

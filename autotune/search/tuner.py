"""Tuner of one kernel: it searches each batch size, compares the finalists, then measures them elsewhere."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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
from .problem_search import ProblemSearch
from .space import Space
from .stages import SUITE, Batch, batches, belongs, distinct, last_number
from .strategy import FULL_SAMPLES, STRATEGIES, Suggestion
from .tuning_plan import TuningPlan
from .tuning_time_left import TuningTimeLeft

QUESTION = "Which configuration of {kernel} is the fastest?"
BATCH = (
    4  # candidates beside the default in a task: more delay what a search learns, fewer repeat the default more often
)


@dataclass(frozen=True, kw_only=True)
class TuningProgress:
    """Progress after each task: its stage and problem, the trials of its search, and the best score so far.

    ``left_s`` are the seconds that everything still takes by estimate, ``share_done`` is the share that is over.
    """

    stage: Stage
    problem: Problem
    trials: int
    best: float | None
    left_s: float
    share_done: float


@dataclass
class TuningTime:
    """Seconds of all searches, of which ``waited_s`` were spent on trials and ``compiled_s`` on the compiler."""

    total_s: float = 0.0
    waited_s: float = 0.0
    compiled_s: float = 0.0
    trials: int = 0

    @property
    def own_s(self) -> float:
        """Seconds that the tuner itself takes for one trial."""
        return (self.total_s - self.waited_s - self.compiled_s) / self.trials if self.trials else 0.0


class Tuner:
    """The tuner carries out a plan. Records go to the store as they are made; what it holds is not measured again.

    ``space_of`` gives the candidates for a problem, ``predict`` their times by the static model, or None, and
    ``faults`` the compiler's faults. Candidates are compiled before they are measured: the worker finds the code in
    the cache, and a candidate with a fault costs a record and no worker.
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
        self._searches: dict[Problem, ProblemSearch] = {}
        self._numbers: Counter[tuple[Stage, Problem]] = Counter()
        self._waited_s = 0.0
        self._compiled_s = 0.0
        self._last = time.perf_counter()
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
            DefaultFails: when the default configuration of a problem fails.
        """
        self._last = time.perf_counter()
        _ = self._time_left  # counts what the records hold before anything is added to them
        for problem in self._plan.searched:
            if not self.interrupted:
                yield from self._search(problem)

    def stop(self) -> None:
        """End the search after the tasks under way; what it has found can then be compared."""
        self.interrupted = True
        self._time_left.stop_searching(self._searches)

    def compare(self, winners: Callable[[Sequence[Record]], Sequence[Config]]) -> Iterator[TuningProgress]:
        """Compare the finalists of each batch size, then all winners at each batch size and load.

        ``winners`` returns the winners by the records of the first comparison.
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
        """Compare the look-up at batch sizes that no table holds with what a search found there."""
        for problem in self._plan.held_out:
            search, found = self._searches.get(problem), look_up(problem)
            if search and found:
                yield from self._compare("held-out", problem, [found, *search.finalists])

    def failed(self) -> list[Record]:
        """Return the records of the candidates that failed: the configuration, how it ended and why."""
        return [record for record in self._candidates() if record.timing is None]

    def failures(self) -> Counter[str]:
        """Count the candidates that failed, by status."""
        return Counter(record.status.value for record in self.failed())

    def passed(self) -> int:
        """Count the candidates that passed."""
        return sum(record.timing is not None for record in self._candidates())

    def _candidates(self) -> Iterator[Record]:
        """Yield the records of the searches, without those of the defaults."""
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
                yield self._progress("search", problem, batch)
        finally:
            self.spent.total_s += time.perf_counter() - started
            self.spent.waited_s += self._waited_s - waited_s
            self.spent.compiled_s += self._compiled_s - compiled_s

    def _open(self, problem: Problem) -> ProblemSearch:
        """Return a search that knows all records of its problem."""
        space = self._space_of(problem)
        strategy = STRATEGIES.load(self._plan.strategy)
        search = ProblemSearch(
            problem=problem,
            space=space,
            strategy=strategy(space, seed=self._plan.seed, predicted=self._predict(problem, space.configs)),
            starts=[space.index(config) for config in self._plan.starts.get(problem.T, ()) if config in space.configs],
        )
        for batch in self._batches("search", problem):
            search.tell([batch.default, *batch.others])
        return search

    def _ask(self, search: ProblemSearch, pending: int) -> list[Suggestion]:
        """Return the next candidates, at most as many as the budget has left."""
        left = self._plan.trials - search.trials - pending * BATCH
        if self.interrupted or left <= 0 or search.seconds >= self._plan.seconds:
            return []
        count = min(BATCH, left)
        first = [index for index in search.starts if index not in search.strategy.scores][:count]
        search.starts = [index for index in search.starts if index not in first]
        return [Suggestion(index, FULL_SAMPLES) for index in first] or search.strategy.ask(count)

    def _tasks(self, search: ProblemSearch, asks: Sequence[Suggestion]) -> Iterator[Task]:
        """Yield tasks of candidates beside the default; those with one number of samples share a task."""
        for samples in dict.fromkeys(ask.samples for ask in asks):
            configs = [search.space.configs[ask.index] for ask in asks if ask.samples == samples]
            self.spent.trials += len(configs)
            yield self._task("search", search.problem, [search.space.default, *configs], samples)

    def _compare(self, stage: Stage, problem: Problem, candidates: Sequence[Config]) -> Iterator[TuningProgress]:
        """Measure candidates and the default in the same rounds, unless the records hold that already.

        The default takes part twice: a winner must gain more than two equal competitors differ by.
        """
        space = self._space_of(problem)
        here = [config for config in distinct(candidates) if config in space.configs and config != space.default]
        configs = [space.default, space.default, *here]
        for batch in self._batches(stage, problem):
            held = [record.config for record in batch.others]
            if all(dict(config) in held for config in configs):
                return
        self._submit(self._task(stage, problem, configs, None))
        yield self._progress(stage, problem, self._finished())

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
        """Compile a task's candidates, submit those without a fault, and return the records of the others.

        The default is always measured.
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
        """Keep and return the records of the next task that is done."""
        started = time.perf_counter()
        finished = self._executor.next()
        self._waited_s += time.perf_counter() - started
        self._keep(finished.records)
        return finished.records

    def _keep(self, records: Sequence[Record]) -> None:
        for record in records:
            self._store.append(record)
        self.records += records

    @cached_property
    def _time_left(self) -> TuningTimeLeft:
        searched = self._plan.searched
        held = {problem: sum(len(batch.others) for batch in self._batches("search", problem)) for problem in searched}
        return TuningTimeLeft(self._plan, {problem: len(self._space_of(problem)) - 1 for problem in searched}, held)

    def _progress(self, stage: Stage, problem: Problem, records: Sequence[Record]) -> TuningProgress:
        now = time.perf_counter()
        self._time_left.finished(stage, problem, records, now - self._last)
        self._last = now
        search = self._searches.get(problem)
        return TuningProgress(
            stage=stage,
            problem=problem,
            trials=search.trials if search else 0,
            best=search.best if search else None,
            left_s=self._time_left.seconds,
            share_done=self._time_left.share_done,
        )

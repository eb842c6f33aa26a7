"""Times from tuned tables: those of the folder for a device here, and those that records of tuning runs say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from ...autotune.tables.build import derive
from ...kernels.catalog import KERNELS
from ...kernels.config import Config
from ...kernels.problem import Problem
from ...kernels.tuned.lookup import Found, answer, look_up, stale_wanted, tuned_kernels
from ...kernels.tuned.source_hash import source_hash
from ...kernels.tuned.tuned_table import TableEntry, TunedTable
from ...results.record import Record
from ...results.record.advice import AdviceSource
from .advised_device import AdvisedDevice
from .predicted_times import peak_bytes
from .recorded_times import layer_of, load_word
from .timed_dispatch import PhaseTimes, TimedDispatch


class TableTimes:
    """The tables for one device: derived from records of tuning runs, and for a device here those of the folder."""

    def __init__(self, records: Sequence[Record], device: AdvisedDevice) -> None:
        self._records = records
        self._device = device

    @cached_property
    def _tables(self) -> list[TunedTable]:
        """The tables of the records, cold before hot ones and then the newest first; deriving them takes a while."""
        derived = derive([record for record in self._records if record.point.stage is not None])
        known = [table for table in derived.tables if table.kernel in KERNELS.names()]
        return sorted(known, key=lambda table: (table.cache == "cold", table.measured[1]), reverse=True)

    def of(self, problem: Problem) -> PhaseTimes | None:
        """Return the times of a problem, by the records' tables else by those of the folder; None without any."""
        derived: dict[str, TimedDispatch] = {}
        for table in self._tables:
            if table.kernel not in derived and (found := self._derived(table, problem)) is not None:
                derived[table.kernel] = found
        dispatches = list(derived.values()) or self._of_folder(problem)
        return PhaseTimes(dispatches=dispatches) if dispatches else None

    def _derived(self, table: TunedTable, problem: Problem) -> TimedDispatch | None:
        fitting = [entry for entry in table.entries if layer_of(entry.shape) == layer_of(problem)]
        wanted = load_word(problem.load)
        loaded = [entry for entry in fitting if wanted in map(load_word, entry.loads)]
        for entry in sorted(loaded, key=lambda entry: entry.robust):
            found = self._answer(entry, table.kernel, problem)
            if found is not None:
                changed = "" if table.source == source_hash(table.kernel) else "; the kernel has changed since"
                return self._timed(table.kernel, found, problem, f"tuned table of the records, {found.why}{changed}")
        return None

    def _answer(self, entry: TableEntry, kernel_name: str, problem: Problem) -> Found | None:
        kernel = KERNELS.load(kernel_name)
        with self._device.assumed():
            if kernel.supports(problem, self._device.torch) is not None:
                return None
            space = kernel.space(problem, self._device.torch)
            valid = [config for config in space if kernel.valid(problem, config, self._device.torch)]

        def own(config: Config) -> Config | None:
            return next((mine for mine in valid if mine == config), None)

        found = answer(entry, problem.T, valid[0], own) if valid else None
        return found if isinstance(found, Found) else None

    def _of_folder(self, problem: Problem) -> Sequence[TimedDispatch]:
        if not self._device.here:
            return []
        found = []
        for name in tuned_kernels(self._device.torch):
            if KERNELS.load(name).supports(problem, self._device.torch) is None:
                one = look_up(problem, name, self._device.torch, stale=stale_wanted())
                if isinstance(one, Found):
                    found.append(self._timed(name, one, problem, f"tuned table, {one.why}"))
        return found

    def _timed(self, kernel_name: str, found: Found, problem: Problem, basis: str) -> TimedDispatch:
        return TimedDispatch(
            kernel=kernel_name,
            config=found.config,
            source=AdviceSource.tuned_table,
            basis=basis,
            seconds=found.seconds,
            peak_bytes=peak_bytes(KERNELS.load(kernel_name), problem, found.config),
        )

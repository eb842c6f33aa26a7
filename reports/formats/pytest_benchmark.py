"""The JSON of pytest-benchmark, which its `compare` and github-action-benchmark with `tool: pytest` read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

from pydantic_core import to_json

from ...common.errors import UserError
from ...common.files import write_whole
from ...common.packages import use
from ...results.benchmark_names import extra_info, group_of, identifier, place_of, safe
from ...results.record import Record
from ..report import Report, ReportFormat

TEST: Final = "test_dispatch"
FILE: Final = "suites/bench_dispatch.py"
TIMES_NS: Final = (1e-3, 1e18)  # from a picosecond to thirty years: nothing else is a measurement


class BenchmarkError(UserError, ValueError):
    """Records that are not benchmarks of one machine; the message says which, and the remedy."""


def document(records: Sequence[Record]) -> str:
    """Return the JSON that ``pytest --benchmark-json`` would have written, for the records that passed.

    Raises:
        BenchmarkError: when none has passed, when they are of several machines, or when a sample is not a time.
        Unusable: where pytest-benchmark, which computes the statistics, is missing.
    """
    for module in ("pytest_benchmark", "pytest_benchmark.stats"):
        use(module, partial(import_module, module), remedy="pip install 'moebench[benchmark]'")
    from pytest_benchmark import __version__  # noqa: PLC0415  # an optional dependency

    passed = [record for record in records if record.timing is not None]
    _check(passed)
    last = passed[-1]
    names = Counter(identifier(record) for record in passed)
    commit, dash, _ = last.commit.partition("-")
    found: dict[str, object] = {
        "machine_info": last.environment.model_dump(),
        "commit_info": {"id": commit, "time": last.time, "dirty": bool(dash), "project": "moebench"},
        "benchmarks": [_benchmark(record, several=names[identifier(record)] > 1) for record in passed],
        "datetime": last.time,
        "version": __version__,
    }
    return to_json(found, indent=1, inf_nan_mode="null").decode()


def _check(passed: Sequence[Record]) -> None:
    """Raise a BenchmarkError unless these are benchmarks of one machine."""
    if not passed:
        raise BenchmarkError("none of the records has passed: there is nothing to export")
    for record in passed:
        if differences := record.environment.differs(passed[-1].environment):
            raise BenchmarkError(
                f"the records are of several environments ({'; '.join(differences)}): export each on its own"
            )
        if record.timing is not None and not all(TIMES_NS[0] <= ns <= TIMES_NS[1] for ns in record.timing.samples_ns):
            raise BenchmarkError(f"the samples of {identifier(record)} are no times: measure it again")


def _benchmark(record: Record, *, several: bool) -> dict[str, object]:
    """Return one entry. Where a place has ``several`` configurations of a kernel, the name holds the configuration."""
    which = "".join(f" {name}={value}" for name, value in record.config.items()) if several else ""
    name = safe(f"{identifier(record)}{which}")
    suite, place = safe(record.point.suite), place_of(record.point, record.problem)
    return {
        "group": group_of(suite, place),
        "name": f"{TEST}[{name}]",
        "fullname": f"{FILE}::{TEST}[{name}]",
        "params": {"suite": suite, "place": place, "kernel": safe(record.kernel)},
        "param": name,
        "extra_info": extra_info(record),
        "options": {},
        "stats": _stats(record),
    }


def _stats(record: Record) -> dict[str, object]:
    from pytest_benchmark.stats import Stats  # noqa: PLC0415  # an optional dependency

    stats = Stats()
    for sample_ns in record.timing.samples_ns if record.timing else ():
        stats.update(sample_ns / 1e9)
    return {**stats.as_dict(), "data": stats.data, "iterations": 1}


def _write(report: Report, path: Path) -> None:
    write_whole(path, document(report.records))


report_format = ReportFormat(suffix=".benchmark.json", write=_write)

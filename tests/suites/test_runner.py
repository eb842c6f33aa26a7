"""Running: isolated, resumable, and never mixing machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_tasks import point, task

from moebench.results.record import Record, Status
from moebench.results.record.store import Store, StoreError, load
from moebench.suites.resume import pending
from moebench.suites.runner import Runner


def run(path: Path, *asked: str) -> list[Record]:
    with Store(path) as store:
        left = pending([task(*asked)], store.loaded.records, "cpu").tasks
        return [record for progress in Runner(store, "cpu").run(left) for record in progress.records]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a run in which two of four competitors took their worker with them."""
    path = tmp_path_factory.mktemp("runs") / "records.jsonl"
    run(path, "loop", "Dies", "scatter", "Raises")
    return path


def test_a_death_costs_its_culprit_one_record_and_nobody_else_anything(records: Path) -> None:
    found = {record.kernel: record for record in load(records).records}
    assert {name: record.status for name, record in found.items()} == {
        "loop": Status.passed,
        "Dies": Status.crashed,
        "scatter": Status.passed,
        "Raises": Status.crashed,
    }
    assert "SIGSEGV" in found["Dies"].reason
    assert found["Dies"].environment == found["loop"].environment


def test_running_again_measures_only_what_is_missing(records: Path) -> None:
    before = records.read_bytes()
    made = run(records, "loop", "Dies", "scatter", "grouped")
    assert [record.kernel for record in made] == ["grouped"]
    assert records.read_bytes().startswith(before)
    assert len(load(records).records) == 5


def test_records_of_another_machine_are_not_continued(records: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.jsonl"
    record = load(records).records[0]
    other = record.model_copy(update={"environment": record.environment.model_copy(update={"device": "Another CPU"})})
    with Store(foreign) as store:
        store.append(other)
    with pytest.raises(StoreError, match=r"device: Another CPU / .*give another --output"):
        run(foreign, "grouped")
    assert load(foreign).records == [other]


SLOW_RUN = """
import sys
from pathlib import Path
from moebench.results.record.store import Store
from moebench.suites.resume import pending
from moebench.suites.runner import Runner
from small_tasks import task

if __name__ == "__main__":
    with Store(Path(sys.argv[1])) as store:
        tasks = [task("loop", "scatter", x=float(x)) for x in range(8)]
        for progress in Runner(store, "cpu").run(pending(tasks, store.loaded.records, "cpu").tasks):
            print(progress.done, flush=True)
"""


def test_a_killed_run_is_continued_without_loss_or_doubles(tmp_path: Path) -> None:
    """SIGKILL in the middle of a point: what was written stays, the rest is measured, no worker is left behind."""
    script, path = tmp_path / "slow.py", tmp_path / "records.jsonl"
    script.write_text(SLOW_RUN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    with subprocess.Popen(
        [sys.executable, str(script), str(path)], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["1\n", "2\n"]
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    kept = load(path).records
    assert len(kept) >= 4
    subprocess.run([sys.executable, str(script), str(path)], env=environment, check=True, capture_output=True)
    loaded = load(path)
    assert loaded.records[: len(kept)] == kept
    assert loaded.problems == []
    assert sorted((record.point.x, record.kernel) for record in loaded.records) == sorted(
        (point(float(x)).x, kernel) for x in range(8) for kernel in ("loop", "scatter")
    )

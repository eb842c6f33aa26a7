"""Study of the predictions: links are calibrated, then layers are measured that no calibration saw.

`nox -s network-study` runs it, with the right to make network namespaces. It writes the calibrated machines, the
records and the predictions to results/recorded; docs/parallel.md shows the table that it prints.

    python studies/network_study.py [FOLDER]     the folder to write to; tests/support/ must be on PYTHONPATH
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

from network_points import DISPATCHERS, SHAPE, TOKENS
from shaped_network import Node, network
from torchrun_launcher import Launch, torchrun

from moebench.common.cores import usable_cores
from moebench.results.record import Record, Status
from moebench.results.record.prediction import Prediction, read, write
from moebench.results.record.store import load
from moebench.suites.prediction.machine import machine
from moebench.suites.prediction.predict import PredictionRequest, predict

MOEBENCH = Path(sys.executable).with_name("moebench")
POINTS = Path(__file__).with_name("network_points.py")
RECORDED = Path(__file__).parents[1] / "results" / "recorded"
MEGABITS = (50, 100, 300)
PER_NODE = (1, 2)
NODES = 2
APART = 0.1  # pairs of dispatchers whose times differ by less are not ranked
END_S = 150.0


@dataclass(frozen=True)
class Line:
    """Two nodes of ``per_node`` ranks each, and the link between them."""

    megabits: int
    per_node: int

    @property
    def name(self) -> str:
        return f"{self.megabits} Mbit/s, {NODES} nodes of {self.per_node}"

    @property
    def file(self) -> str:
        return f"network-{self.megabits}-{self.per_node}"


LINES = [Line(megabits, per_node) for megabits in MEGABITS for per_node in PER_NODE]


@dataclass(frozen=True)
class PredictedPair:
    """The measured and the predicted time of a dispatcher at one point, in seconds."""

    line: str
    tokens: int
    dispatcher: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """The relative error of the prediction."""
        return self.predicted / self.measured - 1


def pairs(records: Sequence[Record], predictions: Sequence[Prediction]) -> list[PredictedPair]:
    """Return every measured point with its prediction.

    Raises:
        ValueError: for a point that failed or has no prediction.
    """
    expected = {(one.series, one.key, one.dispatcher): one.expected for one in predictions}
    found = []
    for record in records:
        prediction = expected[record.point.series, record.key, record.kernel]
        if record.timing is None or prediction is None:
            raise ValueError(f"{record.kernel} at {record.key}: {record.reason or 'nothing is predicted'}")
        seconds = median(record.timing.samples_ns) / 1e9
        found.append(
            PredictedPair(record.point.series, int(record.point.x), record.kernel, seconds, prediction.seconds)
        )
    return found


def ranked(found: Sequence[PredictedPair]) -> Iterator[bool]:
    """Yield, for every two dispatchers at a point that differ by more than APART, whether their order is predicted."""
    for one, other in combinations(found, 2):
        if (one.line, one.tokens) == (other.line, other.tokens):
            ratio = one.measured / other.measured
            if max(ratio, 1 / ratio) > 1 + APART:
                yield (ratio > 1) == (one.predicted > other.predicted)


def recorded() -> list[PredictedPair]:
    """Return the pairs of the recorded study."""
    return pairs(load(RECORDED / "network.jsonl").records, read(RECORDED / "network.predictions.jsonl"))


def measure(line: Line, folder: Path, records: Path) -> None:
    """Calibrate one line and measure its points."""
    with network(NODES, 1e6 * line.megabits) as nodes:
        calibrated = folder / f"{line.file}.toml"
        _run(nodes, line, folder, ["--no-python", MOEBENCH, "calibrate", "--output", calibrated])
        _run(nodes, line, folder, [POINTS, "run", "network", "--output", records])


def _run(nodes: Sequence[Node], line: Line, folder: Path, command: Sequence[str | Path]) -> None:
    where = ["--nnodes", str(NODES), "--nproc-per-node", str(line.per_node)]
    where += ["--master-addr", nodes[0].address, "--master-port", "29500"]
    os.environ["NETWORK_SERIES"] = line.name
    with ExitStack() as stack:
        launches: list[Launch] = [
            stack.enter_context(
                torchrun(folder / f"node {number}", [*where, "--node-rank", str(number), *command], start)
            )
            for number, start in enumerate(_on_cores(node, line, number) for number, node in enumerate(nodes))
        ]
        if any(launch.process.wait(timeout=END_S) for launch in launches):
            raise SystemExit(f"{line.name}: {launches[0].log.read_text()}")


def _on_cores(node: Node, line: Line, number: int) -> Callable[..., list[str]]:
    """Return how to start a command on a node with a core for each of its ranks, shared where there are too few."""
    cores = usable_cores()
    mine = {cores[(number * line.per_node + rank) % len(cores)] for rank in range(line.per_node)}
    return lambda *command: node.inside("taskset", "--cpu-list", ",".join(map(str, sorted(mine))), *command)


def predicted(folder: Path) -> Iterator[Prediction]:
    """Yield the predictions of the calibrated machines for the points."""
    for line in LINES:
        described = machine(str(folder / f"{line.file}.toml"))
        for tokens in TOKENS:
            problem = SHAPE.replace(T=tokens)
            ranks = [NODES * line.per_node]
            yield from predict(PredictionRequest(series=line.name, problem=problem, machine=described, ranks=ranks))


def table(found: Sequence[PredictedPair]) -> Iterator[str]:
    """Yield a table of measured and predicted milliseconds with a row for each point, and a line on the errors."""
    yield f"| link | tokens a rank |{''.join(f' {name} |' for name in DISPATCHERS)}"
    yield f"| --- | ---: |{' ---: |' * len(DISPATCHERS)}"
    for line, tokens in dict.fromkeys((one.line, one.tokens) for one in found):
        cells = {one.dispatcher: one for one in found if (one.line, one.tokens) == (line, tokens)}
        shown = [f" {1e3 * cells[name].measured:.1f} / {1e3 * cells[name].predicted:.1f} |" for name in DISPATCHERS]
        yield f"| {line} | {tokens} |{''.join(shown)}"
    errors, right = sorted(abs(one.error) for one in found), list(ranked(found))
    yield ""
    yield (
        f"{len(found)} points; off by {100 * median(errors):.1f} % in the median, {100 * errors[-1]:.1f} % at worst; "
        f"{sum(right)} of {len(right)} pairs that differ by more than {100 * APART:.0f} % ranked right"
    )


def main() -> None:
    """Measure all lines, write what was measured and predicted, and print the table."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    folder.mkdir(parents=True, exist_ok=True)
    records = folder / "network.jsonl"
    records.unlink(missing_ok=True)
    for line in LINES:
        measure(line, folder, records)
    write(folder / "network.predictions.jsonl", predicted(folder))
    made = load(records).records
    failed = [record for record in made if record.status is not Status.passed]
    sys.stdout.write("\n".join([*table(pairs(made, read(folder / "network.predictions.jsonl")))]) + "\n")
    if failed:
        raise SystemExit(f"{len(failed)} points failed: {failed[0].reason}")


if __name__ == "__main__":
    main()

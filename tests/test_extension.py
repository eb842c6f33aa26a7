"""Extending moebench: each kind of plugin is one new file, which is then listed, used and measured.

Tests add their files to a copy of the package in a temporary folder, and ask fresh processes what they know.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tables import bucket, entry, environment, table

from moebench.kernels.problem import Problem
from moebench.kernels.triton.vllm_tiles import KNOBS, OWN_CHOICE

ROOT = Path(__file__).parents[1]
TILES = dict(zip(KNOBS, (16, 64, 128, 1, 4, 3), strict=True))
FOLDERS = ("autotune", "cli", "common", "execution", "integrations", "kernels", "reports", "results", "suites")
RUN = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.path_hooks[:] = [hook for hook in sys.path_hooks if "editable" not in getattr(hook, "__module__", "")]
sys.path.insert(0, {path!r})
"""


class House:
    """Return a copy of the package, to which files can be added."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "site").mkdir()
        for folder in FOLDERS:
            ignored = shutil.ignore_patterns("__pycache__", "recorded")
            shutil.copytree(ROOT / folder, root / "site" / "moebench" / folder, ignore=ignored)
        (root / "site" / "sitecustomize.py").write_text(RUN.format(path=str(root / "site")))

    def add(self, path: str, source: str) -> None:
        """Write a new file of the package; one that exists already would prove nothing."""
        with (self.root / "site" / "moebench" / path).open("x") as file:
            file.write(dedent(source))

    def python(self, code: str) -> str:
        """Return what a fresh process prints that runs ``code``."""
        return self._run("-c", dedent(code))

    def moebench(self, *arguments: str) -> str:
        """Return what a command of the copy prints."""
        return self._run("-c", "from moebench.cli.main import main; main()", *arguments)

    def records(self, name: str) -> list[dict[str, Any]]:
        """Return the records of a file that a command of the copy wrote."""
        return [json.loads(line) for line in (self.root / name).read_text().splitlines()]

    def _run(self, *arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.root / "site"), "COLUMNS": "200"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the copy is compiled once for all processes
        run = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=self.root, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Return one copy for all tests: plugins stand beside each other."""
    return House(tmp_path_factory.mktemp("house"))


def test_the_copy_is_what_a_process_imports(house: House) -> None:
    code = "import moebench.kernels.catalog as it, moebench.cli.main as main; print(it.__file__); print(main.__file__)"
    assert all(Path(line).is_relative_to(house.root) for line in house.python(code).split())


def test_a_suite_and_an_implementation_are_one_file_each(house: House) -> None:
    """Every suite that asks for its kind, a new one too, measures the implementation without naming it."""
    house.add(
        "suites/sweeps/tiny.py",
        '''
        """Tiny: one small problem."""

        from ...kernels.problem import Problem
        from ..competitors import CompetitorRule
        from ..layer import Layer
        from ..suite import Suite, SuiteForm, SuitePoint, Sweep


        def point(layer, T):
            return SuitePoint(series=layer.title, x=T, problem=layer.changed(T=T))


        layer = Layer(name="tiny", problem=Problem(T=1, D=32, F=32, E=4, K=2))
        form = SuiteForm(
            baseline="loop",
            competitors=CompetitorRule(groups=("dropless",)),
            sweeps=(Sweep(layer=layer, point=point, values=(16,)),),
        )
        suite = Suite(question="Is it measured?", axis="tokens T", small=form, full=form)
        ''',
    )
    house.add(
        "kernels/implementations/mine.py",
        '''
        """Mine: the loop under another name."""

        from .loop import Loop


        class Mine(Loop):
            """The loop over experts, once more."""


        kernel = Mine()
        ''',
    )
    assert "tiny" in house.moebench("list", "suites")
    assert "mine" in house.moebench("list", "kernels")
    asked = house.python(
        """
        from moebench.suites.plan import tasks
        print(all("mine" in [who.kernel for who in task.competitors] for task in tasks("tokens", "small", "cpu")))
        """
    )
    assert asked.split() == ["True"]
    options = ("--kernel", "mine", "--samples", "3", "--device", "cpu", "-o", "run.jsonl")
    assert "Is it measured?" in house.moebench("run", "tiny", *options)
    assert {(one["point"]["suite"], one["kernel"], one["status"]) for one in house.records("run.jsonl")} == {
        ("tiny", "loop", "passed"),
        ("tiny", "mine", "passed"),
    }


@pytest.mark.exhaustive  # the search itself is tested with every strategy
def test_a_strategy_is_one_file(house: House) -> None:
    """The search asks it: whatever it measures besides the default is what this strategy proposes."""
    house.add(
        "autotune/search/strategies/bags.py",
        '''
        """Bags: only configurations that combine rows with an embedding bag."""

        from ..strategy import Strategy, Suggestion


        class Bags(Strategy):
            """Measures the configurations with ``combine`` = bag in the order of the space."""

            def _next(self) -> Suggestion | None:
                configs = enumerate(self.space.configs)
                return self._first_open(index for index, config in configs if config["combine"] == "bag")


        strategy = Bags
        ''',
    )
    assert "bags" in house.moebench("list", "strategies")
    shape = ("--shape", "D=32,F=48,E=4,K=2", "--tokens", "16", "--dtype", "float32", "--device", "cpu")
    house.moebench("tune", "scatter", *shape, "--strategy", "bags", "--trials", "2", "--output", "tune.jsonl")
    searched = [record for record in house.records("tune.jsonl") if record["point"]["stage"] == "search"]
    default, *tried = [record["config"]["combine"] for record in searched]
    assert (default, tried) == ("add", ["bag", "bag"])


def test_a_router_is_one_file(house: House) -> None:
    """The router is listed with its parameter, its routes are those that a trial measures, and the record names it."""
    house.add(
        "kernels/problem/routers/neighbours.py",
        '''
        """Neighbours: K experts in a row, whatever the logits are."""

        from __future__ import annotations

        from dataclasses import dataclass
        from typing import TYPE_CHECKING

        from ..parametrised import parameter
        from ..router import Router, RouterInputs

        if TYPE_CHECKING:
            from torch import Tensor


        @dataclass(frozen=True)
        class Neighbours(Router):
            """The experts from ``first`` on, all weighted alike."""

            first: int = parameter(0, least=0, most=7)

            def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
                import torch

                logits_TE = inputs.logits_TE
                ids_K = torch.arange(self.first, self.first + K, dtype=torch.int32)
                return ids_K.repeat(len(logits_TE), 1), torch.softmax(logits_TE.float()[:, :K], dim=1)


        router = Neighbours
        ''',
    )
    assert "neighbours" in house.moebench("list", "routers")
    said = house.python(
        """
        import torch
        from moebench.execution.trial.task import Budget, Competitor, Task
        from moebench.execution.trial.trial import TrialRunner
        from moebench.kernels.problem import Problem
        from moebench.results.record import Point
        from moebench.results.timing.cpu_clock import CpuClock

        point = Point(suite="test", question="?", axis="T", series="one", x=16, baseline="loop")
        problem = Problem(T=16, D=32, F=32, E=4, K=2, router="neighbours:first=2")
        budget = Budget(seconds=1.0, samples=3)
        task = Task(point=point, problem=problem, competitors=(Competitor(kernel="loop"),), budget=budget)
        runner = TrialRunner(torch.device("cpu"), {"cold": CpuClock()})
        (record,) = runner.run(task, lambda _: None)
        check = runner._checks.drawn(next(iter(runner._checks._references._drawn)))
        print(record.status, record.problem["router"], *check.routed.ids_TK.unique().tolist())
        """
    )
    assert said.split() == ["passed", "neighbours:first=2", "2", "3"]


def test_an_engine_is_one_file(house: House) -> None:
    """Tuned tables are written for it under its own names, and read back by the owner of such names."""
    house.add(
        "autotune/tables/engines/dummy.py",
        '''
        """Dummy: the files of vLLM in a folder of their own."""

        from pathlib import Path

        from .vllm import Vllm


        class Dummy(Vllm):
            """Reads what lies in a folder named dummy."""

            label = "Dummy"

            def owns(self, path: Path) -> bool:
                return path.absolute().parent.name == "dummy"

            def folder(self, triton: str | None) -> str:
                return "dummy"

            def usage(self, folder: Path) -> str:
                return f"DUMMY={folder}"


        engine = Dummy()
        ''',
    )
    layer = entry(
        bucket(64, [2.0, 1.0]),
        shape=Problem(T=0, D=2048, F=1024, E=64, K=8, dtype="bfloat16"),
        configs=(OWN_CHOICE, TILES),
    )
    gpu = environment(device="NVIDIA H200", triton="3.5.1")
    (house.root / "table.json").write_text(table(layer, kernel="vllm_fused_moe", environment=gpu).text())
    written = house.moebench("tables", "export", "table.json", "--for", "dummy", "--output", "out")
    assert f"DUMMY={house.root / 'out'}" in written
    (file,) = (path for path in (house.root / "out" / "dummy").glob("E=*.json") if path.name.count(".") == 1)
    assert "Dummy: E = 64, N = 1024, NVIDIA_H200" in house.moebench("tables", "import", str(file))


def test_a_format_is_one_file(house: House) -> None:
    """The format is found by its suffix and by its name, and writes the records of a run."""
    house.add(
        "reports/formats/medians.py",
        '''
        """Plain text: one line for each trial that passed, with its median."""

        from ..report import ReportFormat


        def _write(report, path):
            rows = [row for section in report.sections for row in section.rows if row.median]
            path.write_text("".join(f"{row.kernel} {row.median.value:.3f} ms" for row in rows))


        report_format = ReportFormat(suffix=".txt", write=_write)
        ''',
    )
    assert "medians" in house.moebench("list", "formats")
    measured = ROOT / "results" / "recorded" / "cpu-main.jsonl"
    house.moebench("report", str(measured), "-o", "found.txt")
    house.moebench("export", str(measured), "--format", "medians", "-o", "named")
    assert "scatter" in (house.root / "named").read_text()
    assert (house.root / "named").read_text() == (house.root / "found.txt").read_text()


def test_a_column_is_one_line(house: House) -> None:
    """A line among the measures is a column of the page with its entry in the glossary, and of a file of numbers."""
    measures = house.root / "site" / "moebench" / "reports" / "measures.py"
    head = "MEASURES: Final[tuple[Measure, ...]] = (\n"
    line = '    Measure("twice_ms", "twice", "ms", "two medians", lambda row: row.median and 2 * row.median.value),\n'
    source = measures.read_text()
    assert source.count(head) == 1
    measures.write_text(source.replace(head, head + line))
    measured = ROOT / "results" / "recorded" / "cpu-main.jsonl"
    for name in ("found.html", "found.csv"):
        house.moebench("report", str(measured), "-o", name)
    assert "two medians" in (house.root / "found.html").read_text()
    with (house.root / "found.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["median_ms"]]
    assert rows
    assert all(float(row["twice_ms"]) == 2 * float(row["median_ms"]) for row in rows)

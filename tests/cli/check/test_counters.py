"""`moebench counters`: changes are printed and decide the exit code; a comparison never writes."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import faulty_kernels
import pytest
from typer.testing import CliRunner, Result

from moebench.cli import compiling
from moebench.cli.main import app
from moebench.kernels.compiler import survey
from moebench.kernels.compiler.machine_code import CodeCounters
from moebench.kernels.compiler.survey import CompileOutcome, cases, references
from moebench.results.counters import read, write
from moebench.suites.gate import compiled_layers, counted_cases

FEW = {"Mixtral-8x7B": counted_cases.PROBLEMS["Mixtral-8x7B"][-1:]}
RAN = "padded, Mixtral-8x7B D=128 T=16 forward bfloat16"


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count one problem and three kernels only, so that a test is fast."""
    monkeypatch.setattr(counted_cases, "PROBLEMS", FEW)
    monkeypatch.setattr("moebench.common.plugins.Catalog.names", lambda _: ["loop", "padded", "triton_padded"])


def run(baseline: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["counters", "--baseline", str(baseline), *arguments])


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    folder = tmp_path / "counters"
    folder.mkdir()
    answer = run(folder, "--accept")
    assert answer.exit_code == 0
    return folder


def change(baseline: Path, **counters: float) -> bytes:
    """Overwrite some accepted counters, and return the content of the file."""
    path = baseline / "padded.json"
    sheet = json.loads(path.read_text())
    sheet["counters"] |= {f"{RAN}: {name}": value for name, value in counters.items()}
    path.write_text(json.dumps(sheet))
    return path.read_bytes()


def operators(baseline: Path) -> int:
    """Return the operators that were counted of `RAN`."""
    return int(json.loads((baseline / "padded.json").read_text())["counters"][f"{RAN}: operators"])


def test_what_was_accepted_is_as_accepted(baseline: Path) -> None:
    answer = run(baseline)
    assert answer.exit_code == 0
    assert answer.output == f"{sum(map(len, read(baseline, 'calls').values()))} counters: as accepted\n"
    assert sorted(path.stem for path in baseline.iterdir()) == ["baseline", "padded", "problem"]


def test_worse_is_exit_code_1_and_writes_nothing(baseline: Path) -> None:
    now = operators(baseline)
    before = change(baseline, operators=now / 1.25, peak_bytes=1)
    answer = run(baseline)
    assert answer.exit_code == 1
    assert f"worse      {RAN}: operators {now / 1.25:.4g} -> {now} (+25 %)\n" in answer.output
    assert ": 2 worse\nto accept them: moebench counters --accept, and commit " in answer.output
    assert (baseline / "padded.json").read_bytes() == before


def test_better_is_reported_and_is_no_failure(baseline: Path) -> None:
    now = operators(baseline)
    change(baseline, operators=2 * now)
    answer = run(baseline)
    assert answer.exit_code == 0
    assert f"better     {RAN}: operators {2 * now} -> {now} (-50 %)\n" in answer.output


def test_neither_better_nor_worse_asks_for_a_look(baseline: Path) -> None:
    path = baseline / "problem.json"
    path.write_text(path.read_text().replace('ideal_bytes": 2', 'ideal_bytes": 3'))
    answer = run(baseline)
    assert answer.exit_code == 1
    assert "different  Mixtral-8x7B T=16 forward bfloat16: ideal bytes 3.819 -> 2.819 GB" in answer.output


def test_a_figure_that_is_no_longer_counted_is_missing(baseline: Path) -> None:
    change(baseline, launches=3)
    answer = run(baseline)
    assert answer.exit_code == 1
    assert f"missing    {RAN}: launches\n" in answer.output


def test_accepting_writes_what_is_and_nothing_is_left_to_say(baseline: Path) -> None:
    before = (baseline / "padded.json").read_bytes()
    change(baseline, operators=40)
    assert run(baseline, "--accept").exit_code == 0
    assert (baseline / "padded.json").read_bytes() == before
    assert run(baseline).exit_code == 0


def test_what_is_broken_cannot_be_accepted(baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = change(baseline, operators=40)
    names = ["loop", "padded", "triton_padded", faulty_kernels.Name("Raises")]
    monkeypatch.setattr("moebench.common.plugins.Catalog.names", lambda _: names)
    line = "broken     Raises, Mixtral-8x7B D=128 T=16 forward bfloat16: RuntimeError: no such luck\n"
    for arguments in ([], ["--accept"]):
        answer = run(baseline, *arguments)
        assert answer.exit_code == 1
        assert line in answer.output
        assert answer.output.endswith("nor anything beside it: mend it first\n")
    assert (baseline / "padded.json").read_bytes() == before


def test_the_same_change_of_a_kernel_is_said_once(baseline: Path) -> None:
    path = baseline / "baseline.json"
    sheet = json.loads(path.read_text())
    sheet["counters"] |= {key: 1 for key in sheet["counters"] if key.endswith("executed_flops")}
    at = next(key.partition(": ")[0] for key in sheet["counters"] if key.endswith("executed_flops"))
    sheet["counters"][at.replace("T=16", "T=17") + ": operators"] = 1
    sheet["counters"][at.replace("T=16", "T=18") + ": operators"] = 1
    path.write_text(json.dumps(sheet))
    answer = run(baseline)
    assert "missing    loop, Mixtral-8x7B T=17 forward bfloat16 and 1 more: operators\n" in answer.output


def test_one_kernel_is_compared_with_its_own_counters(baseline: Path) -> None:
    change(baseline, operators=40)
    assert run(baseline, "--kernel", "loop").exit_code == 0
    assert run(baseline, "--kernel", "loop", "--kernel", "padded").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--kernel", "pader"], "did you mean padded"),
        (["--kernel", "padded", "--accept"], "leave out --kernel"),
    ],
)
def test_what_cannot_be_done_is_exit_code_2(baseline: Path, arguments: list[str], remedy: str) -> None:
    answer = run(baseline, *arguments)
    assert answer.exit_code == 2
    assert remedy in answer.output


def test_nothing_to_compare_with_is_exit_code_2(baseline: Path, tmp_path: Path) -> None:
    """No folder, an empty one, counters of other versions, and a kernel without accepted counters."""
    assert "there is no such folder; go to the root of a checkout" in run(tmp_path / "none").output
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    write(other, "calls", {"padded": {RAN: {"operators": 3}}})
    made = (other / "padded.json").read_text()
    (other / "padded.json").write_text(re.sub(r'"torch": ".*"', '"torch": "1.0"', made))
    cut = shutil.copytree(baseline, tmp_path / "cut")
    (cut / "padded.json").write_text((baseline / "padded.json").read_text()[:100])
    for folder, said in (
        (tmp_path / "empty", "holds no counters to compare with"),
        (other, "holds counters of torch 1.0, here there is "),
        (cut, "padded.json holds no counters (Invalid JSON"),
    ):
        answer = run(folder)
        assert answer.exit_code == 2
        assert said in answer.output
        assert answer.output.count("\n") == 1
    (baseline / "baseline.json").unlink()
    answer = run(baseline, "--kernel", "loop")
    assert answer.exit_code == 2
    assert "nothing to compare: nothing of it was accepted before" in answer.output


def test_machine_code_is_accepted_and_compared_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made-up compiler answers at once: its counters are written to one file and compared with it."""
    case = cases("sm_90", ["triton_padded"], references("Mixtral-8x7B", "bfloat16"), whole=False)[0]
    code = CodeCounters(warps=4, occupancy=2, registers=128, shared_bytes=0, code_bytes=16, tensor_core={"HGMMA": 4})
    found = [CompileOutcome(case=case, launches={"up": code})]
    monkeypatch.setattr(compiled_layers, "layers", lambda _: [case])
    monkeypatch.setattr(compiling, "compile_layers", lambda _: found)
    monkeypatch.setattr(survey, "unable", lambda: None)
    assert run(tmp_path, "--machine-code", "--accept").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["machine_code.json"]
    answer = run(tmp_path, "--machine-code")
    assert (answer.exit_code, answer.output) == (0, "8 counters: as accepted\n")
    code = dataclasses.replace(code, registers=136, tensor_core={"HMMA": 64})
    found[0] = CompileOutcome(case=case, launches={"up": code})
    answer = run(tmp_path, "--machine-code")
    assert answer.exit_code == 1
    at = "triton_padded on sm_90, Mixtral-8x7B T=8192 train bfloat16 cf=1, up"
    assert f"worse      {at}: registers of a thread 128 -> 136 (+6.25 %)\n" in answer.output
    assert f"missing    {at}: tensor-core instructions HGMMA\n" in answer.output
    assert f"new        {at}: tensor-core instructions HMMA\n" in answer.output
    assert "to accept them: moebench counters --machine-code --accept" in answer.output
    found[0] = CompileOutcome(case=case, launches={}, error="up: out of registers")
    answer = run(tmp_path, "--machine-code", "--accept")
    assert answer.exit_code == 1
    assert "T=8192 train bfloat16 cf=1: does not compile: up: out of registers\n" in answer.output
    found.clear()
    answer = run(tmp_path, "--machine-code")
    assert answer.exit_code == 2
    assert "interrupted; 0 of 1 layers were compiled" in answer.output

"""Rates on disk: kept for the machine, read without trust, the better of two measurements, estimates without them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from moebench.execution.trial import rates_for_layers
from moebench.execution.trial.rates_for_layers import keep_rates
from moebench.kernels.problem import Problem
from moebench.kernels.steps import Rates
from moebench.kernels.tuned.kept_rates import FOLDER, estimated, file_here, keep, kept_rates, rates_here
from moebench.kernels.tuned.select import choose
from moebench.results.timing.cpu_rates import CpuRates
from moebench.results.timing.roofline import MachineRates

CPU = torch.device("cpu")
PRODUCTS = {"float32": 2e11, "bfloat16": 9e11, "float16": 5e10}
POINTWISE = {"float32": 5e9, "bfloat16": 3e9, "float16": 3e9}
RATES = Rates(
    flops_per_s=9e11, bytes_per_s=4e10, call_s=4e-6, products=PRODUCTS, pointwise=POINTWISE, fresh_bytes_per_s=3e9
)
MEASURED = CpuRates(products=PRODUCTS, pointwise=POINTWISE, bytes_per_s=4e10, fresh_bytes_per_s=3e9, disturbed=False)
PROBLEM = Problem(T=64, D=64, F=64, E=4, K=2)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder of rates."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how often the machine was measured, as a list of ones; nothing is really measured."""
    times: list[int] = []

    def fake(_: MachineRates) -> CpuRates:
        times.append(1)
        return MEASURED

    monkeypatch.setattr(rates_for_layers, "cpu_rates", fake)
    return times


def test_what_is_kept_is_read_back() -> None:
    assert kept_rates() is None
    assert keep(RATES) == file_here()
    assert kept_rates() == RATES


def test_rates_are_those_of_the_dtype() -> None:
    """The products are the fastest that hold the dtype exactly."""
    keep(RATES)
    for dtype, flops in (("float32", 2e11), ("bfloat16", 9e11), ("float16", 2e11), ("float8_e4m3fn", 9e11)):
        rates, source = rates_here(PROBLEM.replace(dtype=dtype))
        assert (rates.flops_per_s, rates.products, source) == (flops, PRODUCTS, "the rates measured here")


def test_of_two_measurements_the_better_counts_rate_by_rate() -> None:
    keep(dataclasses.replace(RATES, bytes_per_s=9e10, products={**PRODUCTS, "float32": 1e10}))
    keep(RATES)
    assert kept_rates() == dataclasses.replace(RATES, bytes_per_s=9e10)


def test_without_kept_rates_they_are_estimated_and_the_remedy_is_named() -> None:
    rates, source = rates_here(PROBLEM)
    assert rates == estimated(PROBLEM, torch.get_num_threads())
    assert source == f"estimated rates (`moebench doctor` measures {torch.get_num_threads()} threads)"


def test_rates_of_another_number_of_threads_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(RATES)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 97)
    assert kept_rates() is None
    assert "97 threads" in rates_here(PROBLEM).source


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "null", "1e999", '{"moebench_rates": 2}', '{"moebench_rates": 1, "machine": {}, "products": {}}'],
)
def test_a_file_that_holds_no_rates_is_as_none(text: str) -> None:
    file = keep(RATES)
    assert file is not None
    file.write_text(text)
    assert kept_rates() is None
    choose(PROBLEM, CPU)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), True, "fast", None])
def test_a_rate_that_is_none_makes_the_file_worthless(bad: object) -> None:
    file = keep(RATES)
    assert file is not None
    file.write_text(json.dumps({**json.loads(file.read_text()), "bytes_per_s": bad}))
    assert kept_rates() is None


def test_the_folder_is_in_the_users_cache_unless_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = file_here()
    assert file is not None
    name = file.name
    monkeypatch.delenv(FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert file_here() == tmp_path / "moebench" / "rates" / name
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, which the standard says to ignore")
    monkeypatch.setenv("HOME", "/nobody")
    assert file_here() == Path("/nobody/.cache/moebench/rates") / name
    monkeypatch.setenv(FOLDER, "")
    assert file_here() is None


def test_they_are_measured_once_and_again_where_that_is_asked(measured: list[int]) -> None:
    machine = MachineRates(CPU)
    assert keep_rates(machine) == keep_rates(machine) == file_here()
    assert len(measured) == 1
    keep_rates(machine, again=True)
    assert len(measured) == 2
    assert kept_rates() == RATES


def test_nothing_is_measured_where_nothing_would_be_kept(measured: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_rates(MachineRates(torch.device("meta"))) is None
    monkeypatch.setattr(rates_for_layers, "ranks", lambda: 2)
    assert keep_rates(MachineRates(CPU)) is None
    monkeypatch.setenv(FOLDER, "")
    assert keep_rates(MachineRates(CPU), again=True) is None
    assert not measured


@pytest.mark.usefixtures("measured")
def test_a_file_that_cannot_be_written_is_logged(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "a file").write_text("")
    monkeypatch.setenv(FOLDER, str(home / "a file"))
    assert keep_rates(MachineRates(CPU)) is None
    assert "the rates of this machine are not kept: " in caplog.text


def test_rates_that_others_disturbed_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rates_for_layers, "cpu_rates", lambda _: dataclasses.replace(MEASURED, disturbed=True))
    assert keep_rates(MachineRates(CPU)) is None
    assert kept_rates() is None
    assert "others used its cores" in caplog.text


def test_a_choice_measures_nothing(measured: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MachineRates, "fastest", lambda *_: pytest.fail("measured"))
    assert "estimated rates" in choose(PROBLEM, CPU).why
    keep(RATES)
    assert "the rates measured here" in choose(PROBLEM, CPU).why
    assert not measured


def test_without_instructions_for_bfloat16_its_products_are_estimated_slower_than_those_of_float32() -> None:
    problem = PROBLEM.replace(dtype="bfloat16")
    able, unable = (estimated(problem, 2, multiplies_bfloat16=one).products for one in (True, False))
    assert able["bfloat16"] > able["float32"] == unable["float32"] > unable["bfloat16"]

"""`moebench tune`: its output and files, what it refuses, and how it ends when everything fails."""

from __future__ import annotations

import itertools
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from simulated_executor import SOURCE, SPACE, Imagined
from typer.testing import CliRunner, Result

from moebench.autotune.search import tuning_plan
from moebench.autotune.search.candidates import Candidates
from moebench.autotune.search.tuning_plan import TuningPlan
from moebench.cli.main import app
from moebench.cli.tuning.search_session import session
from moebench.cli.tuning.views import SHOWN_FAILURES
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.problem import Problem
from moebench.kernels.tuned.lookup import Found, look_up
from moebench.kernels.tuned.select import choose
from moebench.results.record import Status
from moebench.results.record.store import load

CPU = torch.device("cpu")
TINY = ("--shape", "D=32,F=48,E=4,K=2", "--dtype", "float32", "--device", "cpu")


def moebench(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ((), "name a kernel"),
        (("scater", *TINY), "did you mean scatter"),
        (("scatter",), "tune wants a layer: name one by --model NAME, --config FILE or --shape"),
        (("scatter", *TINY, "--model", "Mixtral-8x7B"), "--shape D=32,F=48,E=4,K=2 both name a layer: give one"),
        (("scatter", "--model", "Mixtral-8x7"), "did you mean Mixtral-8x7B"),
        (("scatter", "--shape", "D=32,F=48"), "each of the four once"),
        (("scatter", *TINY, "--tokens", "16,many"), "'many' is no batch size"),
        (("scatter", *TINY, "--tokens", "0"), "'0' is no batch size"),
        (("scatter", *TINY, "--held-out", "x"), "--held-out x"),
        (("scatter", *TINY, "--strategy", "luck"), "no strategy is named 'luck'"),
        (("scatter", *TINY, "--load", "zipf"), "load = 'zipf'"),
        (("scatter", *TINY, "--load", "trace:missing.npy"), "missing.npy"),
        (("scatter", *TINY, "--target", "sm_90"), "--show-space, --explain and --plan"),
        (("scatter", *TINY, "--plan"), "cpu is not one: give a --target"),
        (("padded", *TINY, "--plan", "--target", "sm_90", "--capacity", "1"), "no static model of padded"),
        (("scatter", *TINY, "--compile"), "--compile: cpu is no GPU"),
        (("scatter", *TINY, "--start", "E=8,N=64,device_name=X.json"), "have the tiles of vllm_fused_moe"),
        (("scatter", *TINY, "--address", "auto"), "--executor ray"),
        (("triton_scatter", *TINY, "--target", "sm_91", "--explain"), "did you mean sm_90"),
        (("padded", *TINY, "--capacity", "-1"), "--capacity -1: give a positive number, or dropless"),
        (("scatter", *TINY, "--capacity", "1"), "is dropless"),
        (("scatter", *TINY, "--robust"), "name them, --other-load zipf:1.2"),
        (("scatter", *TINY, "--device", "cpu", "--cache", "hot"), "--cache hot replays a CUDA graph"),
        (("scatter", *TINY, "--other-load", "bogus"), "load = 'bogus': give one of uniform"),
        (("scatter", *TINY, "--tokens", "10000000000000", "--explain"), "T = 10000000000000: drawing the routes needs"),
        (("scatter", *TINY, "--output", "/proc/none/x.jsonl"), "--output"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(
    arguments: tuple[str, ...], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = moebench("tune", *arguments)
    assert answer.exit_code == 2
    assert remedy in answer.output
    assert not list(tmp_path.iterdir())


def test_a_space_is_shown_with_what_is_excluded() -> None:
    arguments = ("tune", "triton_scatter", "--model", "Mixtral-8x7B", "--target", "sm_80", "-T", "64", "--show-space")
    answer = moebench(*arguments)
    assert answer.exit_code == 0
    assert "tensor descriptors" in answer.output
    plain = json.loads(moebench(*arguments, "--json").output)["64"]
    assert plain["declared"] == plain["valid"] + sum(one["count"] for one in plain["excluded"])
    assert {tile.split("x")[0] for tile in plain["axes"]["up"]} == {"16", "32"}
    assert "same bits in every batch by construction: all" in answer.output
    assert plain["same_bits_in_every_batch"] == plain["valid"]


@pytest.mark.parametrize("words", [("triton_padded", "--target", "sm_90"), ("padded",)])
def test_a_capacity_leaves_no_space_of_the_same_bits(words: tuple[str, ...]) -> None:
    shape = ("--shape", "D=64,F=64,E=4,K=2", "--capacity-factor", "1.25", "-T", "64", "--show-space")
    answer = moebench("tune", *words, *shape)
    assert "same bits in every batch by construction: none" in answer.output, answer.output


def test_the_model_explains_the_best_and_the_default() -> None:
    arguments = ("tune", "triton_scatter", "--model", "Mixtral-8x7B", "--target", "sm_90", "-T", "16", "--explain")
    answer = moebench(*arguments, "--top", 1)
    assert answer.exit_code == 0
    assert answer.output.count("memory:") >= 2
    assert "default:" in answer.output
    best, *_, default = json.loads(moebench(*arguments, "--json").output)["16"]
    assert best["rank"] == 1
    assert best["seconds"] <= default["seconds"] == pytest.approx(sum(part["seconds"] for part in default["parts"]))


def test_a_plan_tells_what_is_tried_and_how_long_it_takes() -> None:
    arguments = ("tune", "triton_scatter", "--model", "Qwen3-30B-A3B", "--target", "sm_90", "-T", "16,64", "--plan")
    answer = moebench(*arguments, "--cores", 16)
    assert answer.exit_code == 0
    assert "| batch size | configurations | trials |" in answer.output
    assert "compiled on 16 cores" in answer.output
    small, large = json.loads(moebench(*arguments, "--cores", 16, "--json").output)
    assert (small["problem"]["T"], large["problem"]["T"]) == (16, 64)
    parts = ("compiling_s", "sampling_s", "checking_s", "comparing_s")
    assert large["seconds"] == pytest.approx(sum(large[part] for part in parts))
    (fewer,) = json.loads(moebench(*arguments[:-2], "64", "--plan", "--cores", 1, "--trials", 8, "--json").output)
    assert fewer["trials"] == 8 < large["trials"]


def test_tuning_ends_in_a_table_that_layers_and_runs_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEBENCH_TUNED", str(tmp_path))
    monkeypatch.setitem(tuning_plan.QUOTED_S, "cpu", 0.02)  # what is chosen does not matter here
    arguments = ("tune", "scatter", *TINY, "--tokens", "32,128", "--trials", 2, "--held-out", "64")
    answer = moebench(*arguments)
    assert answer.exit_code == 0, answer.output
    assert "| batch size |" in answer.output
    assert "held out, T = 64: regret of the look-up" in answer.output
    problem = Problem(T=64, D=32, F=48, E=4, K=2)
    found = look_up(problem, "scatter", CPU)
    assert isinstance(found, Found)
    assert choose(problem, CPU, "scatter").config == found.config
    assert "valid here" in moebench("tables", "show", "--device", "cpu").output
    (records,) = tmp_path.glob("*.jsonl")
    count = len(load(records).records)
    again = json.loads(moebench(*arguments, "--json").stdout)
    assert again["trials"] == 0
    assert len(load(records).records) == count
    assert {row["T"] for row in again["batch_sizes"]} == {32, 128}


Landscape = Callable[[Problem, Config], float | Status]


def tuned(path: Path, landscape: Landscape, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = TuningPlan(
        kernel="scatter",
        source=SOURCE,
        problems=(Problem(T=64, D=32, F=48, E=4, K=2),),
        strategy="random",
        trials=8,
        seconds=1e9,
        quoted_s=0.1,
        hang_s=60.0,
    )
    candidates = Candidates(kernel=KERNELS.load("scatter"), device=CPU)
    monkeypatch.setattr(Candidates, "space", lambda *_: SPACE)
    monkeypatch.setattr(Candidates, "predict", lambda *_: None)
    session(plan, candidates, Imagined(landscape), path, as_json=False)


@pytest.mark.parametrize(
    ("landscape", "said"),
    [
        (lambda *_: Status.timeout, "nothing is tuned, because the default configuration fails: timeout: so it is"),
        (lambda _, config: 1.0 if config == SPACE.default else Status.wrong, "every candidate failed: 8 wrong"),
    ],
)
def test_when_all_fails_the_default_stays_with_the_reason_and_exit_code_1(
    landscape: Landscape,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as ended:
        tuned(tmp_path / "r.jsonl", landscape, monkeypatch)
    assert ended.value.exit_code == 1
    assert said in capsys.readouterr().err


def test_candidates_that_fail_are_said_with_configuration_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [config for config in SPACE.configs if config != SPACE.default][::2]
    tuned(tmp_path / "r.jsonl", lambda _, config: Status.wrong if config in wrong else 1.0, monkeypatch)
    said = capsys.readouterr().out
    failed = [record for record in load(tmp_path / "r.jsonl").records if record.status is Status.wrong]
    assert failed
    assert f"failed: {len(failed)} wrong" in said
    for record in failed[:SHOWN_FAILURES]:
        config = " ".join(f"{name}={value}" for name, value in record.config.items())
        assert f"wrong: {config} at T = 64: {record.reason}\n" in said
    assert (f"and {len(failed) - SHOWN_FAILURES} more that failed, in" in said) is (len(failed) > SHOWN_FAILURES)


@pytest.mark.parametrize(("interruptions", "code", "said"), [(1, None, "compared now"), (2, 2, "continues")])
def test_ctrl_c_ends_the_search_and_again_everything(
    interruptions: int,
    code: int | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = itertools.count(1)

    def interrupting(*_: object) -> float:
        if next(calls) in (7, 15)[:interruptions]:  # in the second task of the search, and in the finals
            signal.raise_signal(signal.SIGINT)
        return 1.0

    before = signal.getsignal(signal.SIGINT)
    if code is None:
        tuned(tmp_path / "r.jsonl", interrupting, monkeypatch)
    else:
        with pytest.raises(typer.Exit) as ended:
            tuned(tmp_path / "r.jsonl", interrupting, monkeypatch)
        assert ended.value.exit_code == code
    printed = capsys.readouterr()
    assert said in printed.out + printed.err
    assert len(re.findall(r"^\d+:\d\d left; T = 64: \d of 8 trials", printed.out, re.MULTILINE)) == 1  # one in 20 s
    assert signal.getsignal(signal.SIGINT) is before
    assert len(load(tmp_path / "r.jsonl").records) >= 10

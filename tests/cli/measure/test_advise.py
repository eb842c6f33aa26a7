"""`moebench advise`: what it answers from records and predictions, how it looks, and what it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from advised import RECORDED
from typer.testing import CliRunner, Result

from moebench.cli.main import app
from moebench.cli.measure import run
from moebench.execution.trial.task import Task
from moebench.kernels.hardware import device_limits
from moebench.results.record import Record

MIX = "decode:512=0.9,prefill:8192=0.1"
MEASURED = ("-m", "Qwen3-30B-A3B", "--width", "512", "--records", RECORDED / "cpu-peers.jsonl")
H100 = ("-m", "Qwen3-30B-A3B", "--device", "H100")


def moebench(*arguments: object, width: int = 80) -> Result:
    return CliRunner(env={"COLUMNS": str(width)}).invoke(app, ["advise", *map(str, arguments)])


def words_of(answer: Result) -> str:
    return " ".join(answer.output.split())


def test_it_advises_from_records_of_another_machine() -> None:
    answer = moebench(*MEASURED, "--traffic", MIX, "--price", "2")
    assert answer.exit_code == 0
    said = words_of(answer)
    assert "decode:512, 90.0 % of the tokens: use padded (certain)" in said
    assert "prefill:8192, 10.0 % of the tokens: use scatter (certain)" in said
    assert "source: measured on 2026-" in said
    assert "grouped takes 1.50 times as long (1.48 to 1.54): certain, measured side by side" in said
    assert "one dispatch for all phases: padded" in said
    assert "a million tokens cost" in said


def test_it_predicts_for_a_gpu_that_is_not_here_and_says_so() -> None:
    answer = moebench(*H100, "--traffic", MIX)
    assert answer.exit_code == 0
    said = words_of(answer)
    assert "source: predicted by the data sheet of H100 SXM, not measured" in said
    assert "unclear, predictions for this device were never compared with measurements" in said
    assert "use triton_scatter (unclear)" in said
    assert "cost" not in said
    assert "largest Qwen3 that fits" in said
    assert "moebench run models --model Qwen3-30B-A3B" in said


def test_json_holds_the_whole_advice() -> None:
    answer = moebench(*MEASURED, "--traffic", MIX, "--price", "2", "--json", width=20)
    found = json.loads(answer.output)
    assert (found["kind"], found["schema_version"], found["price_per_hour"]) == ("advice", 1, 2.0)
    decode, prefill = found["phases"]
    assert (decode["phase"], decode["tokens"], decode["share"]) == ("decode", 512, 0.9)
    assert [one["kernel"] for one in decode["options"]][:2] == ["padded", "grouped"]
    assert prefill["options"][0]["config"] == {"tile": 512}
    assert decode["margin"]["certainty"] == "certain"
    assert decode["options"][0]["low_s"] <= decode["options"][0]["seconds"] <= decode["options"][0]["high_s"]
    assert found["mix"]["single"]["kernel"] == "padded"
    assert [one["bits"] for one in found["experts"]["memory"]] == [16, 8, 4]


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("arguments", [MEASURED, H100], ids=["measured", "predicted"])
def test_no_line_is_wider_than_the_terminal(arguments: tuple[object, ...], width: int) -> None:
    answer = moebench(*arguments, "--traffic", MIX, "--price", "2.5", width=width)
    assert answer.exit_code == 0
    assert max(len(line.rstrip()) for line in answer.output.splitlines()) <= width


def test_between_measured_numbers_of_tokens_it_interpolates() -> None:
    said = words_of(moebench(*MEASURED, "--traffic", "decode:700"))
    assert "use padded (likely)" in said
    assert "source: interpolated between T=512 and T=1024" in said
    assert "likely, certain at the measured numbers of tokens on both sides" in said


def test_the_load_and_the_capacity_reach_the_problem() -> None:
    answer = moebench(
        *("-m", "OLMoE-1B-7B", "--width", "256", "--device", "cpu", "--traffic", "decode:64", "--json"),
        *("--load", "zipf:1", "--capacity", "1.25", "--dtype", "float32", "--drop", "gate_weight"),
    )
    problem = json.loads(answer.output)["problem"]
    assert (problem["load"], problem["capacity_factor"], problem["dtype"]) == ("zipf:1", 1.25, "float32")
    assert (problem["T"], problem["D"], problem["drop"], problem["mode"]) == (64, 256, "gate_weight", "forward")


def test_a_configuration_file_names_the_layer_the_number_of_layers_and_the_family(tmp_path: Path) -> None:
    sizes = {"hidden_size": 2048, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8}
    fields = {"model_type": "qwen3_moe", "hidden_act": "silu", "num_hidden_layers": 12, "decoder_sparse_step": 1}
    (tmp_path / "config.json").write_text(json.dumps({**sizes, **fields, "mlp_only_layers": []}))
    config = ("--config", tmp_path / "config.json", "--traffic", "decode:64", "--device", "H100", "--json")
    experts = json.loads(moebench(*config).output)["experts"]
    assert (experts["layers"], experts["family"]) == (12, "Qwen3")
    assert experts["memory"][0]["largest"] == "Qwen3-30B-A3B"


def test_where_no_kernel_has_a_time_it_says_why_with_exit_code_1() -> None:
    answer = moebench(*MEASURED, "--traffic", "decode:512=0.5,prefill:1000000=0.5")
    assert answer.exit_code == 1
    said = words_of(answer)
    assert "prefill:1000000, 50.0 % of the tokens: there is nothing to advise" in said
    assert "use padded" in said
    assert "the mix has no total" in said


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_it_writes_a_page(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"page{suffix}"
    assert moebench(*MEASURED, "--traffic", MIX, "--output", path).exit_code == 0
    assert "padded" in path.read_text()
    assert moebench(*MEASURED, "--traffic", MIX, "--output", path).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("-m", "Qwen3-30B", "--traffic", MIX), "did you mean Qwen3-30B-A3B"),
        (("-m", "Qwen3-30B-A3B", "--traffic", "decod:64=1"), "no phase is named 'decod': did you mean decode"),
        (("-m", "Qwen3-30B-A3B", "--traffic", "decode:64=0.4"), "the shares add up to 0.4, not to 1"),
        (
            ("-m", "Qwen3-30B-A3B", "--traffic", MIX, "--device", "H1000"),
            "no device is named 'H1000': did you mean H100",
        ),
        (("-m", "Qwen3-30B-A3B", "--traffic", MIX, "--device", "L40S"), "has no data sheet of it"),
        (("-m", "Qwen3-30B-A3B", "--traffic", MIX, "--price", "-1"), "'-1' is no price"),
        (("-m", "Qwen3-30B-A3B", "--traffic", MIX, "--price", "nan"), "'nan' is no price"),
        (
            (
                "-m",
                "Qwen3-30B-A3B",
            ),
            "--traffic",
        ),
        (("--traffic", MIX), "advise wants a layer"),
        (("--shape", "D=1", "--traffic", MIX), "give it as D=512,F=1792,E=8,K=2"),
        (("--config", "missing.json", "--traffic", MIX), "missing.json"),
        (("-m", "Qwen3-30B-A3B", "--traffic", MIX, "--load", "zipf"), "load = 'zipf'"),
        (("-m", "Qwen3-30B-A3B", "--traffic", "train:64", "--dtype", "float8_e4m3fn"), "mode = 'train'"),
        (("-m", "Qwen3-30B-A3B", "--traffic", MIX, "--records", "missing.jsonl"), "missing.jsonl"),
        (("-m", "Qwen3-30B-A3B", "--traffic", MIX, "--records", __file__), "holds no records"),
        (("-m", "Mixtral-8x7B", "--traffic", MIX, *MEASURED[4:]), "change what is asked, or leave --records out"),
        ((*MEASURED, "--traffic", MIX, "--device", "EPYC", "--records", RECORDED / "cpu-peers-zen4.jsonl"), "fits"),
        ((*MEASURED, "--traffic", MIX, "--records", RECORDED / "cpu-peers-zen4.jsonl"), "the records are of 2 devices"),
        (
            (*MEASURED, "--traffic", MIX, "--output", "page.pdf"),
            "give the name of a page, which ends in .html or .md",
        ),
        *(((*MEASURED, "--traffic", MIX, "--output", place), "is a folder: give the name") for place in (".", "/", "")),
        ((*MEASURED, "--traffic", MIX, "--output", f"{'x' * 300}.html"), "File name too long: give another --output"),
        ((*MEASURED, "--traffic", MIX, "--output", "/proc/none/page.html"), "/proc/none"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(
    arguments: tuple[object, ...], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = moebench(*arguments, width=400)
    assert answer.exit_code == 2
    assert remedy in answer.output
    assert "Traceback" not in answer.output
    assert not list(tmp_path.iterdir())


def test_records_are_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_bytes((RECORDED / "cpu-router-share.jsonl").read_bytes())
    answer = moebench(*MEASURED, "--traffic", MIX, "--output", path, width=400)
    assert answer.exit_code == 2
    assert "holds records, and would be written over" in answer.output


@pytest.mark.parametrize(
    ("layer", "traffic"),
    [
        (("-m", "OLMoE-1B-7B"), "decode:64=0.5,prefill:1024=0.5"),
        (
            ("-m", "OLMoE-1B-7B", "--width", "256", "--load", "zipf:1", "--dtype", "float32"),
            "decode:64=0.5,train:256=0.5",
        ),
        (("--shape", "D=64,F=128,E=8,K=2", "--capacity", "1.25"), "prefill:300"),
    ],
    ids=["model", "scaled", "shape"],
)
def test_the_command_that_it_names_measures_the_problems_of_the_phases(
    layer: tuple[str, ...], traffic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.loads(moebench(*layer, "--traffic", traffic, "--device", "cpu", "--json").output)
    planned: list[Task] = []

    def measure(_runner: object, tasks: list[Task], _console: object) -> tuple[list[Record], bool]:
        planned.extend(tasks)
        return [], False

    monkeypatch.setattr(run, "_measure", measure)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(found["command"])
    assert words.pop(0) == "moebench"
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.output
    assert {phase["key"] for phase in found["phases"]} <= {task.problem.key for task in planned}
    named = {option["kernel"] for phase in found["phases"] for option in phase["options"][:2]}
    assert all(named <= {one.kernel for one in task.competitors} for task in planned)


def test_a_gpu_that_is_here_is_the_device_and_is_predicted_as_the_table_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an H100, as far as torch tells of it before anything is launched."""
    limits = {"major": 9, "minor": 0, "multi_processor_count": 132, "shared_memory_per_block_optin": 227 << 10}
    properties = SimpleNamespace(total_memory=85 * 10**9, **limits)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: properties)
    device_limits._ask.cache_clear()
    words = ("-m", "Qwen3-30B-A3B", "--traffic", MIX, "--json")
    here, table = json.loads(moebench(*words).output), json.loads(moebench(*words, "--device", "H100").output)
    device_limits._ask.cache_clear()
    assert (here["device"], here["memory_bytes"]) == ("NVIDIA H100 80GB HBM3", 85 * 10**9)
    assert [phase["options"] for phase in here["phases"]] == [phase["options"] for phase in table["phases"]]

"""The words for a problem: the same in every verb, with one line and exit code 2 for what cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from exhaustive import all_but
from typer.testing import CliRunner, Result

from moebench.cli.main import app
from moebench.cli.problem_options import HELP
from moebench.kernels.problem.models import MODELS
from moebench.suites.layer import Asked, Layer
from moebench.suites.plan import plan

VERBS = {
    "run": ("run", "tokens", "--device", "cpu"),
    "gate": ("gate", "tokens", "--self", "--device", "cpu"),
    "tune": ("tune", "scatter", "--device", "cpu", "--show-space"),
    "predict": ("predict", "--machine", "dgx-h100"),
    "advise": ("advise", "--traffic", "decode:64", "--device", "cpu"),
    "compile": ("kernels", "compile", "--target", "sm_90", "--kernel", "triton_scatter"),
}
LACKING = {"advise": ("tokens", "mode", "ranks", "block")}
"""Words that a verb does not take: those of the traffic in `advise`, which is for experts on one rank."""
SHAPE = ("--shape", "D=64,F=96,E=8,K=2")
PRESETS = [preset.name for preset in MODELS]


def moebench(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, [*map(str, arguments)])


def verbs(command: Any) -> Iterator[Any]:
    for one in command.commands.values():
        yield from verbs(one) if hasattr(one, "commands") else [one]


def test_every_verb_has_the_same_words_with_the_same_help() -> None:
    found = {verb.name: {one.name: one for one in verb.params} for verb in verbs(typer.main.get_command(app))}
    taking = {name: options for name, options in found.items() if "shape" in options}
    assert set(taking) == set(VERBS)
    for verb, options in taking.items():
        offered = {name: words for name, words in HELP.items() if name not in LACKING.get(verb, ())}
        assert {name: (tuple(options[name].opts), options[name].help) for name in offered} == {
            name: (spellings, text) for name, (spellings, _, text) in offered.items()
        }
        assert not set(options) & set(LACKING.get(verb, ()))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    dense = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    (tmp_path / "dense.json").write_text(json.dumps(dense))
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*SHAPE, "--model", "Mixtral-8x7B"), "--model Mixtral-8x7B and --shape D=64,F=96,E=8,K=2 both name a layer"),
        ((*SHAPE, "--config", "dense.json"), "--config dense.json and --shape D=64,F=96,E=8,K=2 both name a layer"),
        (("--config", "dense.json"), "dense model"),
        (("--config", "missing.json"), "missing.json cannot be read (No such file or directory)"),
        (("--shape", "D=64,F=96,E=8"), "--shape D=64,F=96,E=8: give it as D=512,F=1792,E=8,K=2"),
        (("--shape", "D=64,D=64,F=96,E=8,K=2"), "each of the four once"),
        (("--shape", "D=64,F=96,E=0,K=2"), "E = '0' is no positive number"),
        (("--shape", "D=64,F=96,E=8,K=9"), "K = 9 experts per token, but only E = 8 experts: give K <= E"),
        (("--model", "Mixtral-8x7"), "did you mean Mixtral-8x7B"),
        (("--width", "64"), "--width 64 scales a layer: name one by --model NAME"),
        ((*SHAPE, "--width", "1"), "--width 1: D=64, F=96, E=8, K=2: D = 1 is too narrow"),
        ((*SHAPE, "--width", "65"), "--width 65: D=64, F=96, E=8, K=2 has D = 64 already: give at most that"),
        ((*SHAPE, "--width", "x"), "--width x: give a positive number"),
        ((*SHAPE, "--width", "-1"), "--width -1: give a positive number"),
        (("--shape", f"D={'9' * 30},F=96,E=8,K=2"), "is no positive number"),
        ((*SHAPE, "--tokens", "9" * 30), "is no batch size"),
        (("--model", ""), "--model '': give a name, or leave the option out"),
        (("--model", ","), "--model ',': give a name, or leave the option out"),
        ((*SHAPE, "--tokens", "0"), "--tokens 0: '0' is no batch size; give numbers like 16,64,256"),
        ((*SHAPE, "--tokens", "-4"), "--tokens -4: '-4' is no batch size"),
        ((*SHAPE, "--tokens", ""), "is no batch size"),
        ((*SHAPE, "--capacity", "nan"), "--capacity nan: give a positive number, or dropless"),
        ((*SHAPE, "--capacity", "0"), "--capacity 0: give a positive number, or dropless"),
        ((*SHAPE, "--dtype", "int8"), "dtype = 'int8': give one of float32"),
        ((*SHAPE, "--mode", "both"), "mode = 'both': give one of forward, train"),
        ((*SHAPE, "--load", "zipf"), "load = 'zipf': give one of"),
        ((*SHAPE, "--load", "trace:missing.npy"), "trace missing.npy: No such file or directory"),
        ((*SHAPE, "--ranks", "none"), "--ranks none: 'none' is not a number of ranks"),
        ((*SHAPE, "--router", "softmax_tok"), "did you mean softmax_topk"),
        ((*SHAPE, "--block", "shard"), "block = 'shard': no block is named 'shard': did you mean shared"),
        ((*SHAPE, "--block", "shared:width=x"), "width = 'x': give an integer from 0 to 1048576"),
        ((*SHAPE, "--block", "soft_moe"), "block = 'soft_moe' has one expert for a slot: give K = 1, not 2"),
        ((*SHAPE, "--block", "lora"), "give activation = 'identity', gated = False (a suite file can)"),
        ((*SHAPE, "--block", "model"), "--block model is the block of a model: name it by --model NAME or --config"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    verb: str, words: tuple[str, ...], message: str, here: Path
) -> None:
    answer = moebench(*VERBS[verb], *words)
    assert answer.exit_code == 2, answer.output
    if words[-2].removeprefix("--") in LACKING.get(verb, ()):
        assert f"No such option: {words[-2]}" in answer.stderr
        return
    assert message in answer.stderr
    assert answer.stderr.startswith("moebench: ")
    assert answer.stderr.count("\n") == 1
    assert [path.name for path in here.iterdir()] == ["dense.json"]


@pytest.mark.parametrize(
    ("verb", "words"), [("tune", ("--dtype", "float32,bfloat16")), ("predict", ("--tokens", "64,128"))]
)
def test_a_verb_about_one_problem_takes_one_value(verb: str, words: tuple[str, ...]) -> None:
    answer = moebench(*VERBS[verb], *SHAPE, *words)
    assert answer.exit_code == 2
    assert f"{' '.join(words)}: {verb} takes one value: give one of them" in answer.stderr
    two = moebench(*VERBS[verb], "--model", "DBRX,GLM-4.5")
    assert f"--model DBRX, GLM-4.5: {verb} takes one model" in two.stderr


@pytest.mark.parametrize("name", all_but(PRESETS[::3], PRESETS))
def test_every_preset_is_predicted_and_has_a_space(name: str) -> None:
    space = moebench(*VERBS["tune"], "--model", name, "--tokens", "64")
    assert space.exit_code == 0, space.output
    assert "scatter, T = 64" in space.stdout
    predicted = moebench(*VERBS["predict"], "--model", name, "--ranks", "8")
    assert predicted.exit_code == 0, predicted.output
    assert "fastest: " in predicted.stdout


def test_the_block_of_a_model_is_what_its_file_says(here: Path) -> None:
    """Kernels are tuned for the experts alone, in the width that these work in."""
    fields = {"model_type": "deepseek_v3", "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
    more = {"hidden_size": 64, "num_hidden_layers": 2, "n_shared_experts": 2, "n_group": 1, "topk_group": 1}
    (here / "config.json").write_text(json.dumps(fields | more | {"first_k_dense_replace": 0}))
    whole = moebench(*VERBS["tune"], "--config", "config.json", "--block", "model", "--tokens", "16")
    assert (whole.exit_code, whole.stderr) == (
        0,
        "moebench: tuned are the experts alone, D=64: what stands around them in shared:width=192 runs as it is\n",
    )
    alone = moebench(*VERBS["tune"], "--config", "config.json", "--tokens", "16")
    assert (alone.stdout, alone.stderr) == (whole.stdout, "")


def test_a_latent_model_is_scaled_with_its_block() -> None:
    words = ("--model", "Nemotron-3-Super", "--width", "256", "--tokens", "16", "--block")
    assert (
        "D=64: what stands around them in latent:width=64,shared=336"
        in moebench(*VERBS["tune"], *words, "model").stderr
    )
    assert (
        "D=32: what stands around them in latent:width=32" in moebench(*VERBS["tune"], *words, "latent:width=32").stderr
    )


def test_slots_are_tuned_once_whatever_the_tokens() -> None:
    shape = ("--shape", "D=64,F=96,E=8,K=1", "--tokens", "16,64", "--block")
    once = moebench(*VERBS["tune"], *shape, "soft_moe:slots=3")
    assert [line.partition(":")[0] for line in once.stdout.splitlines() if ", T = " in line] == ["scatter, T = 24"]


@pytest.mark.parametrize("words", [("--block", "shared"), ("--block", "model"), ("--block", "shared", "--ranks", "1")])
def test_a_layer_with_a_block_is_not_predicted(words: tuple[str, ...]) -> None:
    refused = moebench(*VERBS["predict"], "--model", "DeepSeek-V3", *words)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "block = 'shared' stands on one rank" in refused.stderr
    assert moebench(*VERBS["predict"], "--model", "Mixtral-8x7B", "--block", "model", "--ranks", "8").exit_code == 0


def test_a_run_is_planned_of_whole_models_on_lines_of_their_own() -> None:
    layers = tuple(Layer.of(name, T=1, whole=True) for name in ("Kimi-K3", "Mixtral-8x7B"))
    asked = Asked(layers=layers, fields={"T": (16,)})
    found = plan(["tokens"], size="small", device_type="cpu", asked=asked, configs="default").tasks
    assert {(task.point.series, task.problem.D, task.problem.block) for task in found} == {
        ("Kimi-K3 with its block, D=7168", 7168, "latent:width=3584,shared=6144"),
        ("Mixtral-8x7B, D=4096", 4096, ""),
    }
    assert "without its latent:width=3584,shared=6144; " in Layer.of("Kimi-K3", T=1).note
    assert "latent:" not in layers[0].note
    assert Asked(layers=layers).models == set(), "the suite's own points of these models are of their experts alone"
    assert Asked(layers=layers[1:]).models == {"Mixtral-8x7B"}


def test_a_block_is_named_on_the_lines_of_a_run_but_the_suite_of_blocks_refuses_one() -> None:
    asked = Asked(fields={"block": ("shared:width=64,sigmoid=true",), "T": (16,)})
    (task,) = plan(["tokens"], size="small", device_type="cpu", asked=asked, configs="default").tasks
    assert (task.problem.block, task.point.series.rpartition(", ")[2]) == ("shared:width=64,sigmoid=true",) * 2
    refused = moebench(*VERBS["run"][:1], "blocks", "--block", "shared")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "moebench: no point of blocks is left: this suite compares blocks: leave the block out, or ask another suite\n",
    )


@pytest.mark.slow  # starts a worker and measures
def test_a_layer_with_a_block_is_measured(here: Path) -> None:
    options = (*SHAPE, "--tokens", "16", "--block", "shared:sigmoid=true", "--kernel", "scatter", "--samples", 3)
    ran = moebench(*VERBS["run"], *options, "-o", "r.jsonl")
    assert ran.exit_code == 0, ran.output
    records = [json.loads(line) for line in (here / "r.jsonl").read_text().splitlines()]
    assert {(record["problem"]["block"], record["status"]) for record in records} == {("shared:sigmoid=true", "passed")}


CONFIGS: dict[str, tuple[int, dict[str, object]]] = {
    "aria_text": (
        2,
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "moe_num_experts": 8,
            "moe_topk": 2,
            "moe_num_shared_experts": 2,
            "num_hidden_layers": 3,
            "hidden_act": "silu",
        },
    ),
    "qwen3_vl_moe": (
        3,
        {
            "text_config": {
                "model_type": "qwen3_vl_moe_text",
                "hidden_size": 64,
                "intermediate_size": 128,
                "moe_intermediate_size": 48,
                "num_experts": 8,
                "num_experts_per_tok": 3,
                "num_hidden_layers": 3,
                "hidden_act": "silu",
                "norm_topk_prob": True,
            },
        },
    ),
    "jetmoe": (
        4,
        {
            "hidden_size": 64,
            "intermediate_size": 32,
            "num_local_experts": 8,
            "num_experts_per_tok": 4,
            "num_hidden_layers": 3,
            "activation_function": "silu",
        },
    ),
}
"""Families without a preset: their K and the fields of their files, small."""


@pytest.fixture(params=CONFIGS)
def family(request: pytest.FixtureRequest, here: Path) -> str:
    """Write the file of a family without a preset, and return the family's name."""
    name: str = request.param
    assert not any(name in preset.name.casefold() for preset in MODELS)
    (here / "config.json").write_text(json.dumps({"model_type": name, **CONFIGS[name][1]}))
    return name


def test_a_config_json_goes_through_tune_predict_and_the_plan_of_a_run(family: str, here: Path) -> None:
    config = ("--config", "config.json", "--dtype", "float32")
    assert "scatter, T = 16" in moebench(*VERBS["tune"], *config, "--tokens", "16").stdout
    assert "fastest: " in moebench(*VERBS["predict"], *config, "--ranks", "4").stdout
    asked = Asked(layers=(Layer.configured(here / "config.json"),), fields={"T": (16,)})
    (task,) = plan(["tokens"], size="small", device_type="cpu", asked=asked, configs="default").tasks
    assert (64, CONFIGS[family][0]) == (task.problem.D, task.problem.K)


@pytest.mark.slow  # each starts a worker and measures
def test_a_config_json_is_measured(family: str, here: Path) -> None:
    options = ("--config", "config.json", "--tokens", "16", "--kernel", "scatter", "--samples", 3, "-o", "r.jsonl")
    ran = moebench(*VERBS["run"], *options)
    assert ran.exit_code == 0, ran.output
    records = [json.loads(line) for line in (here / "r.jsonl").read_text().splitlines()]
    assert {(record["problem"]["D"], record["problem"]["K"], record["status"]) for record in records} == {
        (64, CONFIGS[family][0], "passed")
    }


def test_old_spellings_are_understood() -> None:
    options = ("--model", "Mixtral-8x7B", "--ranks", "8", "--json")
    new = json.loads(moebench(*VERBS["predict"], *options, "--tokens", 64, "--capacity", 1.5).stdout)
    old = json.loads(moebench(*VERBS["predict"], *options, "--tokens-per-rank", 64, "--capacity-factor", 1.5).stdout)
    assert [one["problem"] for one in old] == [one["problem"] for one in new]
    assert new[0]["problem"]["T"] == 8 * 64


def test_suites_of_the_working_folder_are_listed_with_their_paths(here: Path) -> None:
    (here / "bad.suite.toml").write_text("question = 1\n")
    found = json.loads(moebench("list", "suites", "--json").stdout)
    assert found["bad.suite.toml"].startswith("no suite: bad.suite.toml:1: ")
    assert "tokens" in found
